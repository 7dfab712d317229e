"""One outer step of gradient matching with its inner training: DatasetCondensation against ours.

FashionMNIST, 10 images per class, 256 real images per class, ConvNet-3 of width 128, no
augmentation; before each step but the first, the network is trained on the set for 50 epochs.

    python -m benchmarks.dc_step FOLDER [--bfloat16]

Driven from outside: the loop of ``main.py`` of VICO-UoE/DatasetCondensation stands inside its
``main()``, among downloads and evaluation, so :func:`loss` calls what it calls (``match_loss``
on gradients with their graph) and :func:`train` its ``epoch`` on a ``DataLoader``, in its order.
The gradients are compared at the first step, on equal weights and equal real images.
"""

import copy
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.condensation import CODE, Condensation
from benchmarks.released import give_weights, plainly_strided, relative_difference
from benchmarks.setting import Setting, compare, parser, setting, status

WIDTH, REAL, EPOCHS = 128, 256, 50  # channels; real images of a class; inner epochs
WORDS = (
    *("dataset=fashion_mnist", "method=dc", "ipc=10", f"network.width={WIDTH}"),
    *(f"objective.real_batch={REAL}", f"network_source.recipe.epochs={EPOCHS}"),
    "network_source.outer=1000",  # one network for all steps timed
)
ARGS = SimpleNamespace(device="cpu", dis_metric="ours", dsa=False, dc_aug_param=None)


def main(words: Sequence[str] | None = None) -> int:
    """Prints what a step takes on both sides; returns the exit status."""
    takes = parser("one outer step of dc with its inner training", 3, folder=True)
    takes.add_argument(
        "--bfloat16", action="store_true", help="train the network so between steps, on ours"
    )
    args = takes.parse_args(words)
    return status(lambda: measure(args))


def measure(args: Namespace) -> None:
    """Prints the timings and the difference of gradients."""
    utils, _ = CODE.load(args.folder)
    torch.set_num_threads(args.threads)
    precision = "bfloat16" if args.bfloat16 else "float32"
    words = [*WORDS, f"network_source.recipe.precision={precision}"]
    ours = setting(words)
    print(f"one outer step of: fedcl distill {' '.join(words)}")
    theirs = steps(Condensation.like(utils, ours, REAL))
    print(compare(args, ("released", theirs), ours.steps()))
    apart = difference(Condensation.like(utils, ours, REAL), ours)
    print(f"gradients {apart:.1e} apart")


def steps(released: Condensation) -> Callable[[], float]:
    """Returns what takes the next released outer step and returns its loss."""
    network = released.network(WIDTH)
    optimiser = torch.optim.SGD([released.images], lr=0.1, momentum=0.5)
    optimiser_net = torch.optim.SGD(network.parameters(), lr=0.01)
    is_first = True

    def step() -> float:
        nonlocal is_first
        if not is_first:
            train(released, network, optimiser_net)
        is_first = False
        found = loss(released, network, released.drawn)
        optimiser.zero_grad()
        found.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return found.item()

    return step


def train(released: Condensation, network: Any, optimiser: torch.optim.Optimizer) -> None:
    """Trains the network on the set, as between two released outer steps."""
    images = copy.deepcopy(released.images.detach())
    labels = torch.arange(len(released.real)).repeat_interleave(len(images) // len(released.real))
    data = released.utils.TensorDataset(images, labels)
    loader = DataLoader(data, batch_size=256, shuffle=True, num_workers=0)
    criterion = nn.CrossEntropyLoss()
    for _ in range(EPOCHS):
        released.utils.epoch("train", loader, network, optimiser, criterion, ARGS, aug=False)


def loss(released: Condensation, network: Any, draw: Callable[[int], Tensor]) -> Tensor:
    """Returns the released loss over all classes, with the graph of all."""
    total, criterion = torch.tensor(0.0), nn.CrossEntropyLoss()
    parameters = list(network.parameters())
    for label, img_syn in enumerate(released.by_class()):
        img_real = draw(label)
        lab_real, lab_syn = (torch.full((len(x),), label) for x in (img_real, img_syn))
        loss_real = criterion(network(plainly_strided(img_real)), lab_real)
        gw_real = [g.detach().clone() for g in torch.autograd.grad(loss_real, parameters)]
        loss_syn = criterion(network(plainly_strided(img_syn)), lab_syn)
        gw_syn = torch.autograd.grad(loss_syn, parameters, create_graph=True)
        total += released.utils.match_loss(gw_syn, gw_real, ARGS)
    return total


def difference(released: Condensation, ours: Setting) -> float:
    """Returns how far the gradients of the synthetic images are apart at the first step."""
    network, batch = released.network(WIDTH), ours.real_batch(REAL)
    give_weights(network, ours.network())
    found = loss(released, network, lambda label: batch.of_group(label)[0])
    (by_images,) = torch.autograd.grad(found, released.images)
    return relative_difference(by_images, ours.pulled().parameters["pixels"].grad)


if __name__ == "__main__":
    sys.exit(main())
