"""A set learns the step between two given networks."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from distill.condenser import Task, condense
from distill.coresets import Noise
from distill.engine import Distillation
from distill.images import LabelledImages, Normalisation
from distill.labels import HardLabels, SoftLabels
from distill.learned import Learned
from distill.networks import MLP, fresh
from distill.objectives.given_step import GivenStep
from distill.objectives.gradient import GradientMatching
from distill.optimisers import SGD, Adam
from distill.parameterisations.base import Code, Parameterisation
from distill.parameterisations.pixels import Pixels
from distill.pullback import gradient, weights_of
from distill.real import RealData
from distill.rng import derive

NET = MLP(3, 1)
NETWORK = fresh(NET, (1, 8, 8), 3, derive(1))
FIRST = weights_of(NETWORK)
HALF = Normalisation([0.5], [0.25])
SQUARED = GivenStep(NET, GradientMatching("squared", "all"))
PIXELS = Parameterisation(Pixels(False))
COUNTS = torch.tensor([2, 1, 2])


def stepped(images: LabelledImages) -> dict[str, torch.Tensor]:
    slopes = gradient(NETWORK, FIRST, (images.images, images.labels), list(FIRST))
    return {name: w - slopes[name] for name, w in FIRST.items()}


@pytest.fixture
def real(rng) -> LabelledImages:
    return LabelledImages(torch.randn(9, 1, 8, 8, generator=rng), torch.arange(9) % 3, 3)


def learned(images: torch.Tensor) -> Learned:
    return Learned(Code(PIXELS, {"pixels": images}, COUNTS, (1, 8, 8)), HardLabels(), {})


def test_loss_and_gradient_are_those_of_the_whole_graph(real, rng):
    after = stepped(real)
    task = Task(real, COUNTS, HALF, 0, [after, FIRST, after])  # the last two count
    small = learned(torch.randn(5, 1, 8, 8, generator=rng))
    loss = SQUARED.begin(RealData(task), {}).step(0, small)
    images = small.parameters["pixels"].detach().clone().requires_grad_()
    names = [name for name, w in FIRST.items() if w.ndim == 2]
    leaves = dict(NETWORK.named_parameters())
    cross = F.cross_entropy(NETWORK(images), torch.tensor([0, 0, 1, 2, 2]))
    ours = torch.autograd.grad(cross, [leaves[name] for name in names], create_graph=True)
    gaps = [g - (FIRST[n] - after[n]) for n, g in zip(names, ours, strict=True)]
    wanted = torch.stack([gap.square().sum() for gap in gaps]).sum()
    assert loss == pytest.approx(wanted.item(), rel=1e-4)
    (expected,) = torch.autograd.grad(wanted, images)
    torch.testing.assert_close(small.parameters["pixels"].grad, expected, rtol=1e-3, atol=1e-6)


def test_a_set_that_takes_the_step_itself_has_no_loss(rng):
    images = torch.randn(5, 1, 8, 8, generator=rng)
    own = LabelledImages(images, torch.tensor([0, 0, 1, 2, 2]), 3)
    task = Task(own, COUNTS, HALF, 0, [FIRST, stepped(own)])
    assert SQUARED.begin(RealData(task), {}).step(0, learned(images)) < 1e-10


def test_noise_learns_the_step_of_images_that_it_never_sees(real):
    noise = LabelledImages(torch.zeros(9, 1, 8, 8), torch.arange(9) % 3, 3)
    task = Task(noise, COUNTS, HALF, 0, [FIRST, stepped(real)])

    def loss(iterations):
        method = Distillation(SQUARED, PIXELS, HardLabels(), Noise(), Adam(0.1), iterations)
        small = condense(method, task).data
        return SQUARED.begin(RealData(task), {}).step(0, learned(small.images))

    assert loss(25) < 0.3 * loss(1)


def test_fewer_than_two_networks_are_refused(real):
    with pytest.raises(ValueError, match=r"^objective=given_step must have two .* got 1"):
        SQUARED.begin(RealData(Task(real, COUNTS, HALF, 0, [FIRST])), {})


@pytest.mark.parametrize("place", [0, 1])
def test_a_network_of_another_architecture_is_refused(real, place):
    given = [FIRST, FIRST]
    given[place] = weights_of(fresh(MLP(4, 1), (1, 8, 8), 3, derive(1)))
    with pytest.raises(ValueError, match=r"^weights given to objective must be those of"):
        SQUARED.begin(RealData(Task(real, COUNTS, HALF, 0, given)), {})


@pytest.mark.parametrize(("labels", "rate"), [(SoftLabels(0.9), None), (HardLabels(), 0.1)])
def test_learned_labels_and_step_sizes_are_refused(labels, rate):
    with pytest.raises(ValueError, match=r"^labels must be hard and method\.rate null where a"):
        Distillation(SQUARED, PIXELS, labels, Noise(), SGD(0.1, 0.0), 1, rate=rate)
