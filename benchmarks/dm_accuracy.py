"""Distribution matching to equal accuracy: VICO-UoE/DatasetCondensation against ours.

FashionMNIST, 10 images per class, DSA. The released code takes its steps with its ConvNet-3 of
width 128 and 256 real images of a class, its defaults; ours, from the same images, takes as many
as an eighth of that processor time allows, with its preset's 64 real images and the width given.
Networks of width 32, trained by one preset, then score both sets on the test part: where ours is
no worse, it is at least eight times faster to that accuracy.

    python -m benchmarks.dm_accuracy FOLDER [--rounds 60] [--width 32] [--share 8]
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from statistics import mean

import torch

from benchmarks.allocation import as_glibc_adapts, as_we_set_it
from benchmarks.alternate import taken
from benchmarks.condensation import CODE, Condensation
from benchmarks.dm_step import REAL, steps
from benchmarks.setting import composed, parser, setting, status
from distill.condenser import Step
from distill.images import LabelledImages
from experiments.scenarios.distillation import DistillationRun

WORDS = (
    *("dataset=fashion_mnist", "method=dm", "start=real", "ipc=10", "method.iterations=100000"),
    *("distiller=convnet", "network.width=32", "evaluation=dsa", "evaluation.networks=2"),
)


def main(words: Sequence[str] | None = None) -> int:
    """Prints steps, seconds and accuracy of both sides; returns the exit status."""
    takes = parser("dm to equal accuracy", 60, folder=True)
    takes.add_argument("--width", type=int, default=32, help="channels of what distils ours")
    takes.add_argument("--share", type=float, default=8.0, help="ours gets the time over this")
    args = takes.parse_args(words)
    return status(lambda: measure(args))


def measure(args: Namespace) -> None:
    """Prints a line for each side."""
    utils, _ = CODE.load(args.folder)
    torch.set_num_threads(args.threads)
    words = (*WORDS, f"distiller.width={args.width}")
    ours = setting(words)
    print(f"steps of: fedcl distill {' '.join(words)}", flush=True)
    released = Condensation.like(utils, ours, REAL)
    theirs = as_glibc_adapts(steps(released))
    spent = [taken(theirs)[1] for _ in range(args.rounds)]
    run, small = composed(words), ours.learned().as_images()
    reached = [("released", spent, released.images.detach())]
    reached.append(("ours", *within(sum(spent) / args.share, as_we_set_it(ours.steps()))))
    for name, seconds, images in reached:
        found = scored(run, LabelledImages(images, small.labels, small.num_classes))
        accuracies = f"{mean(found):.4f} ({', '.join(f'{a:.4f}' for a in found)})"
        print(f"{name:<10}{len(seconds)} steps, {sum(seconds):.0f} s: {accuracies}", flush=True)


def within(seconds: float, take: Callable[[], Step]) -> tuple[Sequence[float], torch.Tensor]:
    """Returns what each step of the time given took, and the images after them."""
    spent, last = list[float](), list[Step]()
    while sum(spent) < seconds:
        spent.append(taken(lambda: last.append(take()))[1])
        del last[:-1]
    return spent, last[-1].result().data.images


def scored(run: DistillationRun, small: LabelledImages) -> list[float]:
    """Returns the test accuracy of each network that the preset trains on the set."""
    names = (run.test, run.scenario.network, run.scenario.seed)
    return list(run.scenario.evaluation.accuracies(small, *names))


if __name__ == "__main__":
    sys.exit(main())
