"""One step of distribution matching: VICO-UoE/DatasetCondensation against ours.

FashionMNIST, 10 images per class, 256 real images per class, ConvNet-3 of width 128, DSA.

    python -m benchmarks.dm_step FOLDER [--bfloat16]

Driven from outside: the loop of ``main_DM.py`` stands inside its ``main()``, among downloads and
evaluation, so :func:`loss` calls what it calls (``get_network``, ``embed``, ``DiffAugment``), in
its order, and :func:`steps` takes torch's steps. Both sides draw from the same tensors. The
gradients are compared on equal weights and equal real images, without augmentation, whose
numbers the two sides draw differently.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor

from benchmarks.condensation import CODE, Condensation
from benchmarks.released import give_weights, plainly_strided, relative_difference
from benchmarks.setting import Setting, compare, parser, setting, status

WIDTH, REAL = 128, 256  # channels; real images of a class
WORDS = (
    *("dataset=fashion_mnist", "method=dm", "start=real", "ipc=10"),
    *(f"network.width={WIDTH}", f"objective.real_batch={REAL}"),
)
DSA = "color_crop_cutout_flip_scale_rotate"  # main_DM.py's default


def main(words: Sequence[str] | None = None) -> int:
    """Prints what a step takes on both sides; returns the exit status."""
    takes = parser("one step of dm", 5, folder=True)
    takes.add_argument(
        "--bfloat16", action="store_true", help="embed real images so, on ours; AMX or a GPU helps"
    )
    args = takes.parse_args(words)
    return status(lambda: measure(args))


def measure(args: Namespace) -> None:
    """Prints the timings and the difference of gradients."""
    utils, _ = CODE.load(args.folder)
    torch.set_num_threads(args.threads)
    precision = "bfloat16" if args.bfloat16 else "float32"
    words = [*WORDS, f"objective.statistic.precision={precision}"]
    ours = setting(words)
    print(f"one step of: fedcl distill {' '.join(words)}")
    theirs = steps(Condensation.like(utils, ours, REAL))
    print(compare(args, ("released", theirs), ours.steps()))
    plain = setting([*words, "augmentation=none"])
    print(f"gradients {difference(Condensation.like(utils, plain, REAL), plain):.1e} apart")


def steps(released: Condensation) -> Callable[[], float]:
    """Returns what takes the next released step and returns its loss."""
    optimiser, seeds = torch.optim.SGD([released.images], lr=1.0, momentum=0.5), count()

    def step() -> float:
        network = released.network(WIDTH).requires_grad_(False)
        found = loss(released, network, released.drawn, (DSA, seeds))
        optimiser.zero_grad()
        found.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return found.item()

    return step


def loss(
    released: Condensation,
    network: Any,
    draw: Callable[[int], Tensor],
    augmentation: tuple[str, "count[int]"],
) -> Tensor:
    """Returns the released loss over all classes; ``augmentation``: strategy and its seeds."""
    total, (strategy, seeds) = torch.tensor(0.0), augmentation
    param = released.utils.ParamDiffAug()
    augment = partial(released.utils.DiffAugment, strategy=strategy, param=param)
    for label, images in enumerate(released.by_class()):
        seed = next(seeds)
        img_real, img_syn = augment(draw(label), seed=seed), augment(images, seed=seed)
        output_real = network.embed(plainly_strided(img_real)).detach()
        output_syn = network.embed(plainly_strided(img_syn))
        total += torch.sum((torch.mean(output_real, dim=0) - torch.mean(output_syn, dim=0)) ** 2)
    return total


def difference(released: Condensation, ours: Setting) -> float:
    """Returns how far the gradients of the synthetic images are apart, without augmentation."""
    network, batch = released.network(WIDTH).requires_grad_(False), ours.real_batch(REAL)
    give_weights(network, ours.network())
    found = loss(released, network, lambda c: batch.of_group(c)[0], ("none", count()))
    (by_images,) = torch.autograd.grad(found, released.images)
    return relative_difference(by_images, ours.pulled().parameters["pixels"].grad)


if __name__ == "__main__":
    sys.exit(main())
