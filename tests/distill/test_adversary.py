"""An adversary pulls branches apart and sees through them, as in sums written out."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.augment import Augmentation
from distill.condenser import State, Task
from distill.images import LabelledImages, Normalisation
from distill.labels import HardLabels, Labels
from distill.learned import Learned
from distill.networks import ConvNet, Network
from distill.objectives.adversary import Adversarial, contrast, likeness, pairs
from distill.objectives.base import Objective, Pulling
from distill.parameterisations.base import Code, Parameterisation
from distill.parameterisations.hallucinators import Hallucinators
from distill.parameterisations.pixels import Pixels
from distill.real import RealData
from distill.rng import derive

SHAPE, COUNTS = (1, 8, 8), torch.tensor([2, 1, 2])  # rows of each class
PLAIN = Augmentation([], False)
DSA = Augmentation(["color", "crop", "cutout", "flip", "scale", "rotate"], True)
THREE = Parameterisation(Pixels(False), [Hallucinators(3, 1)])


@final
@dataclass(frozen=True)
class Five(Objective):
    """Its loss is 5, and what it pulls is one number: how often it did."""

    def check(self, labels: Labels, rates: Sequence[float]) -> None:
        if rates:
            raise ValueError("five takes no rate")

    def begin(self, real: RealData, state: State) -> Pulling:
        return _Five(state)


class _Five(Pulling):
    def __init__(self, state: State) -> None:
        self.steps = int(state.get("steps", 0))

    def step(self, index: int, small: Learned) -> float:
        self.steps += 1
        return 5.0

    def state(self) -> State:
        return {"steps": self.steps}


ADVERSARY = Adversarial(Five(), ConvNet(3, 1), DSA, None, 0.3, 0.7, 0.2, 0.4, 0.5, 0.01, 0.9)


@pytest.fixture
def real(rng) -> RealData:
    images = torch.randn(12, *SHAPE, generator=rng)
    labels = torch.arange(3).repeat_interleave(4)
    return RealData(
        Task(LabelledImages(images, labels, 3), COUNTS, Normalisation([0.5], [0.25]), 0)
    )


def small_set(part: Parameterisation = THREE) -> Learned:
    rng = torch.Generator().manual_seed(7)
    rows = torch.arange(3).repeat_interleave(COUNTS)
    first = LabelledImages(torch.randn(5, *SHAPE, generator=rng), rows, 3)
    return Learned(part.encode(part.decoding(first, 0), first, 0), HardLabels(), {})


def moved(small: Learned) -> None:
    """What an optimiser's step does to the set."""
    with torch.no_grad():
        small.parameters["pixels"].mul_(0.9)


def through_a_file(state: State) -> State:
    file = io.BytesIO()
    torch.save(dict(state), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def weights(network: Network) -> list[Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def naive_contrast(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Equation 2 of Khosla et al., a sum at a time, divided by the number of anchors."""
    total = torch.zeros(())
    for j, anchor in enumerate(features):
        others = [a for a in range(len(features)) if a != j]
        below = sum((anchor @ features[a] / temperature).exp() for a in others)
        alike = [p for p in others if labels[p] == labels[j]]
        for p in alike:
            total -= ((anchor @ features[p] / temperature).exp() / below).log() / len(alike)
    return total / len(features)


def test_likeness_is_the_mean_of_shifted_cosines():
    # pairs (1, 0), (2, 0): cosine 1; (0, 3), (0, -1): -1; (1, 1), (0, 2): sqrt(1/2).
    # ((1 + 1) + (1 - 1) + (1 + .7071)) / (3 * 2) = 3.7071 / 6
    first, second = [[1.0, 0], [0, 3], [1, 1]], [[2.0, 0], [0, -1], [0, 2]]
    found = likeness(torch.tensor([*first, *second]))
    assert found.item() == pytest.approx((3 + math.sqrt(0.5)) / 6)


def test_contrast_agrees_with_arithmetic():
    # Features e1, e2, e1, e2 of classes 0, 1, 0, 1 at temperature 1: the only positive has the
    # product 1, the two others 0, so every anchor pays -log(e / (e + 2)).
    features = torch.eye(2).repeat(2, 1)
    found = contrast(features, torch.tensor([0, 1, 0, 1]), 1.0)
    assert found.item() == pytest.approx(math.log(1 + 2 / math.e))


@pytest.mark.parametrize("temperature", [0.07, 2.0])
def test_contrast_agrees_with_the_naive_loop(rng, temperature):
    features = F.normalize(torch.randn(8, 5, generator=rng))
    labels = torch.tensor([0, 1, 1, 2, 0, 1, 1, 2])
    found = contrast(features, labels, temperature)
    torch.testing.assert_close(found, naive_contrast(features, labels, temperature))


def test_contrast_has_a_finite_gradient(rng):
    features = torch.randn(6, 5, generator=rng, requires_grad=True)
    contrast(F.normalize(features), torch.tensor([0, 1, 2, 0, 1, 2]), 0.07).backward()
    assert features.grad.isfinite().all()


def test_a_pair_is_of_one_row_and_two_branches(rng):
    small, branches = small_set(), set()
    for _ in range(30):
        first, second = pairs(small, 3, rng).chunk(2)
        assert len(set((first // 3).tolist())) == 3
        assert torch.equal(first // 3, second // 3)
        assert len(set((first % 3).tolist())) == len(set((second % 3).tolist())) == 1
        branches.add((int(first[0] % 3), int(second[0] % 3)))
    assert branches == {(a, b) for a in range(3) for b in range(3) if a != b}


@pytest.mark.parametrize("count", [None, 9])
def test_at_most_all_rows_are_drawn(rng, count):
    first, _ = pairs(small_set(), count, rng).chunk(2)
    assert sorted((first // 3).tolist()) == [0, 1, 2, 3, 4]


def whole_graph(small: Learned, index: Tensor) -> Tensor:
    """The images at ``index``, with the graph of how they are decoded."""
    return small.code.decode(index)


def test_the_first_step_pulls_as_autograd_does_and_leaves_the_extractor(real):
    small, pulling = small_set(), ADVERSARY.begin(real, {})
    before = weights(pulling.extractor)
    loss = pulling.step(0, small)
    rng = derive(0, "adversary", 0)
    index = pairs(small, None, rng)
    seen = DSA.draw(len(index), (8, 8), rng)(whole_graph(small, index))
    expected = 0.3 * likeness(real.fresh(ConvNet(3, 1), "extractor").embed(seen))
    slopes = torch.autograd.grad(expected, list(small.parameters.values()))
    assert loss == pytest.approx(5 + expected.item())
    for (name, value), slope in zip(small.parameters.items(), slopes, strict=True):
        torch.testing.assert_close(value.grad, slope, msg=name)
    assert all(p.grad is None for p in pulling.extractor.parameters())
    assert all(torch.equal(a, b) for a, b in zip(weights(pulling.extractor), before, strict=True))


def test_gradient_reaches_all_rows_and_the_two_hallucinators(real):
    small = small_set()
    ADVERSARY.begin(real, {}).step(0, small)
    first, second = (
        int(part[0] % 3) for part in pairs(small, None, derive(0, "adversary", 0)).chunk(2)
    )
    assert (small.parameters["pixels"].grad.flatten(1).abs().amax(1) > 0).all()
    reached = small.parameters["0.inner"].grad.flatten(1).abs().amax(1) > 0
    assert reached.tolist() == [branch in (first, second) for branch in range(3)]


def test_the_extractor_goes_down_its_own_loss(real):
    # One plain step from fresh weights: momentum has nothing to add to it yet.
    small, pulling = small_set(), ADVERSARY.begin(real, {})
    pulling.step(1, small)
    expected, rng = real.fresh(ConvNet(3, 1), "extractor"), derive(0, "extractor training", 1)
    index = pairs(small, None, rng)
    seen = DSA.draw(len(index), (8, 8), rng)(small.images(index))
    features, labels = expected.embed(seen), small.classes[index]
    logits = expected.classifier(features)
    loss = -0.7 * logits.log_softmax(1)[torch.arange(10), labels].mean()
    cosines = F.cosine_similarity(features[:5], features[5:])
    loss = loss + 0.2 * ((1 - cosines) / 2).mean()
    loss = loss + 0.4 * naive_contrast(F.normalize(features), labels, 0.5)
    slopes = torch.autograd.grad(loss, list(expected.parameters()))
    for ours, start, slope in zip(
        pulling.extractor.parameters(), expected.parameters(), slopes, strict=True
    ):
        torch.testing.assert_close(ours.detach(), (start - 0.01 * slope).detach())


def test_training_the_extractor_pulls_on_nothing_of_the_set(real):
    small, pulling = small_set(), replace(ADVERSARY, diversity=0.0).begin(real, {})
    pulling.step(0, small)
    pulling.step(1, small)
    assert all((p.grad == 0).all() for p in small.parameters.values())


def test_the_extractor_sees_a_pair_as_alike_again_after_training(real):
    # Alone, the similarity term brings the two images of every row together.
    adversary = replace(
        ADVERSARY, augmentation=PLAIN, classification=0.0, contrast=0.0, similarity=9.0
    )
    small, pulling = small_set(), adversary.begin(real, {})
    index = pairs(small, None, torch.Generator().manual_seed(0))
    before = likeness(pulling.extractor.embed(small.images(index))).item()
    for step in range(30):
        pulling.step(step, small)
    assert likeness(pulling.extractor.embed(small.images(index))).item() > before


def test_following_the_pull_makes_pairs_less_alike(real):
    adversary = replace(ADVERSARY, augmentation=PLAIN)
    small, pulling = small_set(), adversary.begin(real, {})
    optimiser = torch.optim.SGD(small.parameters.values(), 3.0)
    losses = []
    for _ in range(20):  # always step 0: the same pair of branches, the extractor untrained
        optimiser.zero_grad()
        losses.append(pulling.step(0, small))
        optimiser.step()
    assert losses[-1] < losses[0] - 0.01


@pytest.mark.parametrize("done", [1, 3])
def test_it_goes_on_from_its_state_with_the_same_bytes(real, done):
    small, again, pulling = small_set(), small_set(), ADVERSARY.begin(real, {})
    for index in range(done):
        pulling.step(index, small)
        moved(small)
        moved(again)
    state = pulling.state()
    resumed = ADVERSARY.begin(real, through_a_file(state))
    for index in range(done, 6):
        assert pulling.step(index, small) == resumed.step(index, again)
        moved(small)
        moved(again)
    pairs_of = zip(weights(pulling.extractor), weights(resumed.extractor), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs_of)
    assert pulling.state()["objective"] == resumed.state()["objective"] == {"steps": 6}
    assert state["objective"] == {"steps": done}


def test_a_state_does_not_change_with_later_steps(real):
    small, pulling = small_set(), ADVERSARY.begin(real, {})
    pulling.step(0, small)
    pulling.step(1, small)
    state = pulling.state()
    before = through_a_file(state)
    pulling.step(2, small)
    torch.testing.assert_close(dict(state), before, rtol=0, atol=0)


def test_a_set_of_one_image_a_row_is_refused(real):
    pixels = torch.zeros(5, *SHAPE)
    small = Learned(
        Code(Parameterisation(Pixels(False)), {"pixels": pixels}, COUNTS, SHAPE), HardLabels(), {}
    )
    with pytest.raises(ValueError, match=r"two or more images of a row .*, got 1; take halluc"):
        ADVERSARY.begin(real, {}).step(0, small)


def test_what_the_objective_refuses_is_refused():
    ADVERSARY.check(HardLabels(), [])
    with pytest.raises(ValueError, match="five takes no rate"):
        ADVERSARY.check(HardLabels(), [0.1])


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("rows", 0, ">= 1"),
        ("diversity", -0.1, ">= 0"),
        ("classification", -0.1, ">= 0"),
        ("similarity", -0.1, ">= 0"),
        ("contrast", -0.1, ">= 0"),
        ("temperature", 0.0, "> 0"),
        ("learning_rate", 0.0, "> 0"),
        ("momentum", 1.0, r"in \[0, 1\)"),
    ],
)
def test_values_outside_their_range_are_refused(name, value, rule):
    with pytest.raises(ValueError, match=rf"^adversary {name} must be {rule}, got {value}$"):
        replace(ADVERSARY, **{name: value})
