"""Networks around given weights lie at the radius, in directions that know no weight."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from distill.around_given import AroundGiven
from distill.condenser import Task
from distill.images import LabelledImages, Normalisation
from distill.networks import MLP, fresh
from distill.pullback import weights_of
from distill.real import RealData
from distill.rng import derive

NET = MLP(3, 1)
GIVEN = weights_of(fresh(NET, (1, 8, 8), 2, derive(3)))
AROUND = AroundGiven(NET, GIVEN, 5.0, 1)


@pytest.fixture
def real() -> RealData:
    images = LabelledImages(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), 2)
    return RealData(Task(images, torch.tensor([1, 1]), Normalisation([0.5], [0.25]), 0))


def flat(weights: dict[str, Tensor]) -> Tensor:
    return torch.cat([w.flatten() for w in weights.values()])


@pytest.mark.parametrize("radius", [0.5, 5.0])
def test_a_network_lies_at_the_radius_over_all_weights(real, radius):
    networks = replace(AROUND, radius=radius).begin(real, {})
    for index in range(5):
        gap = flat(weights_of(networks.take(index, None))) - flat(GIVEN)
        assert gap.norm().item() == pytest.approx(radius, rel=1e-5)


def test_directions_are_uniform(real):
    # 203 weights: a coordinate of a random direction has mean 0 and mean square 1 / 203.
    networks = replace(AROUND, radius=1.0).begin(real, {})
    gaps = torch.stack(
        [flat(weights_of(networks.take(index, None))) - flat(GIVEN) for index in range(300)]
    )
    assert gaps.shape[1] == 203
    assert gaps.mean(0).abs().max() < 5 / (203 * 300) ** 0.5
    assert gaps.square().mean(0).mul(203).sub(1).abs().max() < 0.5


def test_at_radius_zero_every_step_sees_the_given_network(real):
    networks = replace(AROUND, radius=0.0).begin(real, {})
    for index in range(3):
        assert torch.equal(flat(weights_of(networks.take(index, None))), flat(GIVEN))


def test_a_network_serves_its_steps(real):
    networks = replace(AROUND, steps=2).begin(real, {})
    taken = [flat(weights_of(networks.take(index, None))) for index in range(4)]
    assert torch.equal(taken[0], taken[1])
    assert not torch.equal(taken[1], taken[2])


def test_given_weights_stay_as_they_are(real):
    before = flat(GIVEN).clone()
    networks = AROUND.begin(real, {})
    networks.take(0, None)
    assert torch.equal(flat(GIVEN), before)
    assert networks.state() == {}


def test_weights_are_read_from_a_file(real, tmp_path):
    path = tmp_path / "global.safetensors"
    save_file(GIVEN, path)
    read = replace(AROUND, weights=str(path)).begin(real, {}).take(4, None)
    assert torch.equal(
        flat(weights_of(read)), flat(weights_of(AROUND.begin(real, {}).take(4, None)))
    )


def test_a_file_that_is_not_there_is_refused(real):
    with pytest.raises(
        ValueError, match=r"^network_source\.weights must name a file .*, got no/f$"
    ):
        replace(AROUND, weights="no/f").begin(real, {})


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({k: w for k, w in GIVEN.items() if "bias" not in k}, "nothing for classifier.bias, "),
        (GIVEN | {"extra": torch.zeros(2)}, r"\(2,\) for extra, which has no place; "),
        (
            GIVEN | {"classifier.bias": torch.zeros(7)},
            r"\(7,\) for classifier.bias, which has \(2,\); ",
        ),
    ],
)
def test_weights_of_another_network_are_refused(real, weights, reason):
    message = rf"^weights given to network_source must be those of .*architecture, got {reason}"
    with pytest.raises(ValueError, match=message):
        replace(AROUND, weights=weights).begin(real, {})


def test_values_outside_their_range_are_refused():
    with pytest.raises(ValueError, match=r"^network_source\.radius must be >= 0, got -1\.0$"):
        replace(AROUND, radius=-1.0)
    with pytest.raises(ValueError, match=r"^network_source\.steps must be >= 1, got 0$"):
        replace(AROUND, steps=0)


def test_without_weights_of_its_own_it_takes_the_tasks_last(real):
    other = {name: w + 1 for name, w in GIVEN.items()}
    task = Task(real.data, torch.tensor([1, 1]), Normalisation([0.5], [0.25]), 0, [other, GIVEN])
    source = replace(AROUND, weights=None, radius=0.0)
    taken = source.begin(RealData(task), {}).take(0, None)
    assert torch.equal(flat(weights_of(taken)), flat(GIVEN))


def test_no_weights_at_all_are_refused(real):
    with pytest.raises(ValueError, match=r"network_source.weights must be .* got null"):
        replace(AROUND, weights=None).begin(real, {})
