"""Differentiating training of 30 steps: the reverse recursion against the graph of all steps.

FashionMNIST, 10 images per class, ConvNet-3 of width 32, DSA, the end compared with an expert's
as in mtt. Ours keeps the weights of the steps and the graph of one of them; the obvious way
back-propagates through all. Peak memory is that of a process of its own for each side.

    python -m benchmarks.unrolling [--dataset fashion_mnist] [--inner 30]
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812

from benchmarks.allocation import as_we_set_it
from benchmarks.memory import peak
from benchmarks.setting import Setting, compare, parser, setting, status
from benchmarks.trajectory import (
    PLAIN,
    SPAN,
    WORDS,
    differences,
    doubled,
    our_steps,
    trajectory,
    unrolled,
)
from distill.expert import Trajectory
from distill.rng import derive

SIDES = ("one graph", "ours")


def main(words: Sequence[str] | None = None) -> int:
    """Prints what a step takes in both ways; returns the exit status."""
    takes = parser("one step of mtt against back-propagation through all steps", 3, folder=False)
    takes.add_argument("--inner", type=int, default=30, help="steps of training")
    takes.add_argument("--dataset", default="fashion_mnist")
    args = takes.parse_args(words)
    return status(lambda: measure(args))


def measure(args: Namespace) -> None:
    """Prints peak memory, the timings and the difference of gradients."""
    torch.set_num_threads(args.threads)
    words = [f"dataset={args.dataset}", *WORDS, "network.width=32"]
    words.append(f"objective.inner_steps={args.inner}")
    ours = setting(words)
    expert = trajectory(ours)
    print(f"one step of: fedcl distill {' '.join(words)}")
    for side in SIDES:
        print(peak(prepared, side, words, args.threads, expert).row(side))
    theirs = (SIDES[0], graph_steps(ours, expert))
    print(compare(args, theirs, our_steps(ours, expert)))
    by_images, by_rate = apart(setting([*words, PLAIN]), expert)
    print(f"gradients {by_images:.1e} apart by images, {by_rate:.1e} by the step size, in float64")


def prepared(
    side: str, words: Sequence[str], threads: int, expert: Trajectory
) -> Callable[[], float]:
    """Returns a step of one side, in a process of its own."""
    torch.set_num_threads(threads)
    ours = setting(words)
    if side == "ours":
        return as_we_set_it(our_steps(ours, expert))
    return graph_steps(ours, expert)


def graph_steps(ours: Setting, expert: Trajectory) -> Callable[[], float]:
    """Returns what takes the next step in the obvious way and returns its loss."""
    images, rate = leaves(ours)
    optimiser, rng = torch.optim.SGD([images], lr=100.0, momentum=0.5), derive(0, "graph")

    def step() -> float:
        found = loss(ours, expert, (images, rate), rng)
        optimiser.zero_grad()
        found.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return found.item()

    return step


def leaves(ours: Setting) -> tuple[Tensor, Tensor]:
    """Returns the images that ours starts from, and the step size, as leaves."""
    small = ours.learned()
    images = small.as_images().images.requires_grad_()
    return images, images.new_tensor(small.rates[0]).requires_grad_()


def loss(
    ours: Setting, expert: Trajectory, learned: tuple[Tensor, Tensor], rng: torch.Generator
) -> Tensor:
    """Returns the distance from the expert after all inner steps, with the graph of all."""
    (images, rate), network, objective = learned, ours.network(), unrolled(ours)
    labels, size = ours.task.labels, cast(tuple[int, int], images.shape[2:])
    student = {name: w.clone().requires_grad_() for name, w in expert[0].items()}
    for _ in range(objective.inner_steps):
        draw = objective.augmentation.draw(len(images), size, rng)
        logits = functional_call(network, student, (draw(images),))
        slopes = torch.autograd.grad(
            F.cross_entropy(logits, labels), list(student.values()), create_graph=True
        )
        moved = zip(student.items(), slopes, strict=True)
        student = {name: w - rate * slope for (name, w), slope in moved}
    return distance(student, expert[SPAN]) / distance(expert[0], expert[SPAN])


def distance(weights: dict[str, Tensor], others: dict[str, Tensor]) -> Tensor:
    """Returns the squared distance of two points in weight space."""
    return torch.stack([(w - others[name]).square().sum() for name, w in weights.items()]).sum()


def apart(ours: Setting, expert: Trajectory) -> tuple[float, float]:
    """Returns how far the float64 gradients by images and by the step size are apart."""
    ours, expert = ours.double(), doubled(expert)
    learned = leaves(ours)
    return differences(ours, expert, learned, loss(ours, expert, learned, derive(0)))


if __name__ == "__main__":
    sys.exit(main())
