"""Distribution matching to equal accuracy: VICO-UoE/DatasetCondensation against ours.

FashionMNIST, 10 images per class, ConvNet-3 of width 128, DSA. Both sides start from the same
real images and take the same number of steps of the same size; the released code averages over
256 real images of a class, its default, ours over 64, its preset. Networks of width 32, trained
by one preset, score both sets on the test part: where ours is no worse, the ratio of the times
of a step is that of the times to that accuracy.

    python -m benchmarks.dm_accuracy FOLDER [--rounds 60]
"""

import sys
from argparse import Namespace
from collections import deque
from collections.abc import Sequence
from statistics import mean

import torch

from benchmarks.condensation import CODE, Condensation
from benchmarks.dm_step import REAL, WIDTH, steps
from benchmarks.setting import compare, composed, parser, setting, status
from distill.condenser import Step
from distill.images import LabelledImages

WORDS = (
    *("dataset=fashion_mnist", "method=dm", "start=real", "ipc=10"),
    *("distiller=convnet", f"distiller.width={WIDTH}", "network.width=32"),
    *("evaluation=dsa", "evaluation.networks=2"),
)


def main(words: Sequence[str] | None = None) -> int:
    """Prints what a step takes on both sides, and both accuracies; returns the exit status."""
    args = parser("dm to equal accuracy", 60, folder=True).parse_args(words)
    return status(lambda: measure(args))


def measure(args: Namespace) -> None:
    """Prints the timings, then the accuracy of the set on each side."""
    utils, _ = CODE.load(args.folder)
    torch.set_num_threads(args.threads)
    ours = setting(WORDS)
    released, take, last = Condensation.like(utils, ours, REAL), ours.steps(), deque[Step]([], 1)
    print(f"{args.rounds + 1} steps of: fedcl distill {' '.join(WORDS)}", flush=True)
    theirs = ("released", steps(released))
    print(compare(args, theirs, lambda: last.append(take())), flush=True)
    small = last.pop().result().data
    for name, images in (("released", released.images.detach()), ("ours", small.images)):
        found = scored(LabelledImages(images, small.labels, small.num_classes))
        print(f"{name:<10}{mean(found):.4f} ({', '.join(f'{a:.4f}' for a in found)})", flush=True)


def scored(small: LabelledImages) -> list[float]:
    """Returns the test accuracy of each network that the preset trains on the set."""
    run = composed(WORDS)
    names = (run.test, run.scenario.network, run.scenario.seed)
    return list(run.scenario.evaluation.accuracies(small, *names))


if __name__ == "__main__":
    sys.exit(main())
