"""One step of trajectory matching, 30 inner steps: GeorgeCazenavette/mtt-distillation against ours.

FashionMNIST, 10 images per class, all of them in every inner step, DSA, ConvNet-3; one expert,
two epochs on 500 images, which both sides are given.

    python -m benchmarks.mtt_step FOLDER [--width 32]

At width 128 the released step keeps some 15 GB of graph. Peak memory is that of a process of
its own for each side, which takes one step.

Driven from outside: the loop of ``distill.py`` stands inside its ``main()``, among downloads,
wandb and evaluation, so :func:`loss` calls what it calls (``get_network``, ``ReparamModule``,
``DiffAugment``), in its order. ``utils.py`` imports kornia, for whitening alone: an empty module
takes its place. The gradients are compared without augmentation, whose numbers the two sides
draw differently.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.allocation import as_we_set_it
from benchmarks.memory import peak
from benchmarks.released import Implementation, plainly_strided
from benchmarks.setting import Setting, compare, parser, setting, status
from benchmarks.trajectory import PLAIN, SPAN, WORDS, differences, doubled, our_steps, trajectory
from distill.expert import Trajectory

CODE = Implementation(
    "GeorgeCazenavette/mtt-distillation", ("utils", "networks", "reparam_module"), ("kornia",)
)
INNER = 30  # steps
DSA = "color_crop_cutout_flip_scale_rotate"  # distill.py's default
SIDES = ("released", "ours")


def main(words: Sequence[str] | None = None) -> int:
    """Prints what a step takes on both sides; returns the exit status."""
    takes = parser("one step of mtt at 30 inner steps", 3, folder=True)
    takes.add_argument("--width", type=int, default=32, help="channels: 32, 64 or 128")
    args = takes.parse_args(words)
    return status(lambda: measure(args))


def measure(args: Namespace) -> None:
    """Prints peak memory, the timings and the difference of gradients."""
    modules = CODE.load(args.folder)
    torch.set_num_threads(args.threads)
    words = ["dataset=fashion_mnist", *WORDS]
    words += [f"objective.inner_steps={INNER}", f"network.width={args.width}"]
    ours = setting(words)
    expert = trajectory(ours)
    print(f"one step of: fedcl distill {' '.join(words)}")
    for side in SIDES:
        given = (side, args.folder, words, args.threads, expert)
        print(peak(prepared, *given).row(side))
    theirs = steps(Matching.like(modules, ours, expert))
    print(compare(args, ("released", theirs), our_steps(ours, expert)))
    by_images, by_rate = apart(modules, setting([*words, PLAIN]), expert)
    print(f"gradients {by_images:.1e} apart by images, {by_rate:.1e} by the step size, in float64")


@final
@dataclass(frozen=True)
class Matching:
    """A matching as ``distill.py`` sets it up.

    Attributes:
        utils: Its module of that name.
        reparam: Its module ``reparam_module``.
        images: The synthetic images, a leaf, ordered by class.
        labels: Their classes.
        rate: The step size of the inner steps, a leaf.
        expert: The expert's weights at the start and after every epoch.
        width: Channels.
    """

    utils: ModuleType
    reparam: ModuleType
    images: Tensor
    labels: Tensor
    rate: Tensor
    expert: Sequence[Tensor]
    width: int

    @classmethod
    def like(cls, modules: Sequence[ModuleType], ours: Setting, expert: Trajectory) -> "Matching":
        """Returns the released side, with the images and the expert that ours starts from."""
        (utils, _, reparam), small = modules, ours.learned()
        start = small.as_images()
        flat = [torch.cat([w.reshape(-1) for w in weights.values()]) for weights in expert]
        images = start.images.requires_grad_()
        rate = images.new_tensor(small.rates[0]).requires_grad_()
        width = len(next(iter(expert[0].values())))
        return cls(utils, reparam, images, start.labels, rate, flat, width)


def steps(released: Matching) -> Callable[[], float]:
    """Returns what takes the next released step and returns its loss."""
    by_images = torch.optim.SGD([released.images], lr=100.0, momentum=0.5)
    by_rate = torch.optim.SGD([released.rate], lr=1e-5, momentum=0.5)

    def step() -> float:
        found = loss(released, DSA)
        by_images.zero_grad()
        by_rate.zero_grad()
        found.backward()  # type: ignore[no-untyped-call]
        by_images.step()
        by_rate.step()
        return found.item()

    return step


def loss(released: Matching, strategy: str) -> Tensor:
    """Returns the released loss at the end of all inner steps, with the graph of all."""
    utils, criterion = released.utils, nn.CrossEntropyLoss()
    network = utils.get_network(f"ConvNetW{released.width}", 1, 10, (28, 28), dist=False)
    network = network.to(released.images.dtype)
    student_net, param = released.reparam.ReparamModule(network).train(), utils.ParamDiffAug()
    starting, target = released.expert[0], released.expert[SPAN]
    student = starting.clone().requires_grad_()
    for _ in range(INNER):
        indices = torch.randperm(len(released.images))
        x = utils.DiffAugment(released.images[indices], strategy, param=param)
        logits = student_net(plainly_strided(x), flat_param=student)
        ce_loss = criterion(logits, released.labels[indices])
        (grad,) = torch.autograd.grad(ce_loss, student, create_graph=True)
        student = student - released.rate * grad
    return F.mse_loss(student, target, reduction="sum") / F.mse_loss(
        starting, target, reduction="sum"
    )


def prepared(
    side: str, folder: Path, words: Sequence[str], threads: int, expert: Trajectory
) -> Callable[[], float]:
    """Returns a step of one side, in a process of its own."""
    torch.set_num_threads(threads)
    modules, ours = CODE.load(folder), setting(words)
    if side == "ours":
        return as_we_set_it(our_steps(ours, expert))
    return steps(Matching.like(modules, ours, expert))


def apart(modules: Sequence[ModuleType], ours: Setting, expert: Trajectory) -> tuple[float, float]:
    """Returns how far the float64 gradients by images and by the step size are apart."""
    ours, expert = ours.double(), doubled(expert)
    released = Matching.like(modules, ours, expert)
    leaves = (released.images, released.rate)
    return differences(ours, expert, leaves, loss(released, "none"))


if __name__ == "__main__":
    sys.exit(main())
