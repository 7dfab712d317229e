"""Defences set aside whoever stands out of a class, and nobody for having few or rare images."""

import pytest
import torch

from distill.augment import Augmentation
from distill.images import LabelledImages, Normalisation
from distill.networks import MLP
from distill.pullback import gradient, weights_of
from distill.training import Recipe
from fedcl.defences.base import Evidence
from fedcl.defences.blocks import deviations, outlying, standing_out
from fedcl.defences.class_means import ClassMeans
from fedcl.defences.induced import induced_gradients
from fedcl.defences.krum import Krum, distances
from fedcl.defences.leave_one_out import LeaveOneOut
from fedcl.defences.median import Median
from fedcl.federated.base import ServerTask, World
from fedcl.wire import pack_weights

RECIPE = Recipe(20, 4, 0.05, 0.0, 0.0, None, Augmentation([], mirror=False))
DEFENCES = [ClassMeans(2, 6.0), Median(6.0), Krum(1), LeaveOneOut(RECIPE, 6.0)]


def first_pixel(images, label):
    return images[:, 0, 0, :1]


def of_pixels(*classes: list[float]) -> LabelledImages:
    """A set whose images have these first pixels, a list a class."""
    labels = [label for label, pixels in enumerate(classes) for _ in pixels]
    images = torch.zeros(len(labels), 1, 8, 8)
    images[:, 0, 0, 0] = torch.tensor([pixel for pixels in classes for pixel in pixels])
    return LabelledImages(images, torch.tensor(labels), 2)


HAND = {
    4: of_pixels([0.0, 2.0], []),
    5: of_pixels([1.0, 3.0], [7.0, 9.0]),
    7: of_pixels([10.0, 12.0], [1.0]),
}


def drawn(seed: int, shown: list[int], each: int = 4) -> LabelledImages:
    """A set that shows class ``shown[c]`` under the name c; every class is a bright row."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(shown)).repeat_interleave(each)
    images = 0.5 * torch.randn(len(labels), 1, 8, 8, generator=rng)
    images[torch.arange(len(labels)), 0, torch.tensor(shown)[labels]] += 2.0
    return LabelledImages(images, labels, 3)


def evidence(sets) -> Evidence:
    world = World(
        clients=[[data] for data in sets.values()],
        architecture=MLP(16, 1),
        normalisation=Normalisation([0.5], [0.25]),
        image_shape=(1, 8, 8),
        num_classes=3,
        seed=0,
    )
    server = ServerTask(world, 1, 0, pack_weights(world.first_network()), None)
    return Evidence(sets, server, drawn(99, [0, 1, 2], 10))


def honest(clients: int = 8) -> dict[int, LabelledImages]:
    return {k: drawn(k, [0, 1, 2]) for k in range(clients)}


# -- blocks -------------------------------------------------------------------------------


def test_a_block_deviates_by_its_distance_from_the_median_in_sampling_errors():
    # Class 0: means 1, 2, 11, median 2; variances 2; two images each, so that the sampling
    # error is sqrt(2 (1/2 + 1/2)). Class 1 has two clients and is not judged.
    found = deviations(HAND, first_pixel)
    expected = {(4, 0): 1 / 2**0.5, (5, 0): 0.0, (7, 0): 9 / 2**0.5}
    assert found == pytest.approx(expected)


def test_deviations_agree_with_a_naive_loop(rng):
    sizes = [(3, 1, 4), (2, 2, 0), (1, 5, 3), (4, 3, 0), (2, 1, 2)]
    sets = {}
    for k, counts in enumerate(sizes):
        labels = torch.arange(3).repeat_interleave(torch.tensor(counts))
        sets[k] = LabelledImages(torch.randn(len(labels), 1, 8, 8, generator=rng), labels, 3)
    naive = {}
    for c in range(3):
        own = {k: s.of_class(c).flatten(1) for k, s in sets.items() if len(s.of_class(c))}
        centre = torch.stack([v.mean(0) for v in own.values()]).median(0).values
        spread = torch.tensor([v.var(0).sum() for v in own.values() if len(v) > 1]).median()
        usual = torch.tensor([float(len(v)) for v in own.values()]).median()
        for k, v in own.items():
            error = (spread * (1 / len(v) + 1 / usual)).sqrt()
            naive[k, c] = ((v.mean(0) - centre).norm() / error).item()
    assert deviations(sets, lambda x, _: x.flatten(1)) == pytest.approx(naive, rel=1e-5)


def test_what_stands_out_is_counted_in_deviations_of_the_median():
    # median 3, absolute deviations 2, 1, 0, 1, 97 of median 1: (100 - 3) / 1.4826
    scores = standing_out(torch.tensor([1.0, 2.0, 3.0, 4.0, 100.0]))
    assert scores[2] == 0
    assert scores[4].item() == pytest.approx(97 / 1.4826)


def test_units_and_order_of_clients_change_nothing():
    sets = honest() | {3: drawn(3, [0, 0, 2])}
    found = outlying(sets, lambda x, _: x.flatten(1), 6.0)
    scaled = outlying(sets, lambda x, _: 7 * x.flatten(1), 6.0)
    turned = outlying(dict(reversed(sets.items())), lambda x, _: x.flatten(1), 6.0)
    assert set(found) == set(scaled) == set(turned) == {3}


def test_a_set_without_a_class_to_compare_is_not_judged():
    sets = {k: drawn(k, [0, 1, 2]) for k in range(2)}
    assert deviations(sets, first_pixel) == {}
    assert outlying(sets, first_pixel, 0.1) == {}


# -- gradients ----------------------------------------------------------------------------


def test_induced_gradients_average_to_the_gradient_of_the_set():
    found = evidence(honest())
    data, network = found.sets[0], found.server.world.first_network()
    each = induced_gradients(found.server)(data.of_class(1), 1)
    weights = weights_of(network)
    labels = torch.ones(len(each), dtype=torch.int64)
    whole = gradient(network, weights, (data.of_class(1), labels), list(weights))
    torch.testing.assert_close(each.mean(0), torch.cat([g.flatten() for g in whole.values()]))


# -- what each sets aside -----------------------------------------------------------------


@pytest.mark.parametrize("defence", DEFENCES, ids=lambda d: type(d).__name__)
def test_a_client_of_mislabelled_images_is_set_aside_with_a_reason(defence):
    rejected = defence.rejected(evidence(honest() | {5: drawn(5, [1, 2, 0])}))
    assert set(rejected) == {5}
    assert "off" in rejected[5]


@pytest.mark.parametrize("defence", DEFENCES[:3], ids=lambda d: type(d).__name__)
def test_one_wrong_class_is_enough(defence):
    assert set(defence.rejected(evidence(honest() | {5: drawn(5, [0, 0, 2])}))) == {5}


@pytest.mark.parametrize("defence", DEFENCES[:2], ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("seed", range(3))
def test_honest_clients_stay_however_few_images_they_have(defence, seed):
    sets = {k: drawn(100 * seed + k, [0, 1, 2], each=1 + 3 * (k % 2)) for k in range(8)}
    assert defence.rejected(evidence(sets)) == {}


@pytest.mark.parametrize("defence", DEFENCES[:3], ids=lambda d: type(d).__name__)
def test_a_client_with_a_class_of_its_own_is_not_judged_by_it(defence):
    full = honest()
    sets = {k: s.rows(s.labels != 2) if k else s for k, s in full.items()}
    sets[6] = drawn(6, [1, 0, 2]).rows(torch.arange(8))
    assert set(defence.rejected(evidence(sets))) == {6}


# -- Krum ---------------------------------------------------------------------------------


def test_krums_distance_is_the_largest_over_common_classes_in_sampling_errors():
    # Class 0: means 1, 2, 11 and errors 2 (1/2 + 1/2) = 2: squares over 2.
    # Class 1: means 8 and 1, variance 2, errors 2 (1/2 + 1/1) = 3: 49 / 3, less than 40.5.
    apart = distances(HAND, first_pixel)
    expected = torch.tensor([[torch.inf, 0.5, 50], [0.5, torch.inf, 40.5], [50, 40.5, torch.inf]])
    torch.testing.assert_close(apart, expected)


def test_clients_without_a_common_class_have_no_distance():
    sets = {0: of_pixels([1.0, 2.0], []), 1: of_pixels([], [1.0, 2.0]), 2: of_pixels([3.0], [3.0])}
    apart = distances(sets, first_pixel)
    assert apart[0, 1] == apart[1, 0] == torch.inf
    assert apart[0, 2].isfinite()


def test_krum_scores_by_the_nearest_neighbours_alone():
    # Seven clients, f = 2, so 7 - 2 - 2 = 3 neighbours: two that agree are too few to hide.
    sets = honest(7) | {2: drawn(50, [0, 0, 2]), 3: drawn(50, [0, 0, 2])}
    sets[3] = LabelledImages(sets[3].images + 0.01, sets[3].labels, 3)
    assert set(Krum(2).rejected(evidence(sets))) == {2, 3}


def test_krum_sets_as_many_aside_as_it_assumes_attack_or_not():
    found = evidence(honest())
    assert [len(Krum(f).rejected(found)) for f in (1, 2)] == [1, 2]


def test_krum_refuses_to_assume_too_many():
    with pytest.raises(ValueError, match=r"defence.attackers must be < 1.5, .* 5 uploads .* got 2"):
        Krum(2).check_uploads(5)


def test_krum_assumes_fewer_where_clients_failed():
    # Of five uploads one may be an attacker's, 2 + 2 < 5; of four none can be told.
    assert len(Krum(2).rejected(evidence(honest(5)))) == 1
    assert Krum(2).rejected(evidence(honest(4))) == {}


# -- leave one out ------------------------------------------------------------------------


@pytest.mark.parametrize(("threshold", "rejected"), [(1e-6, {5}), (1e6, set())])
def test_only_a_harm_that_stands_out_is_a_reason(threshold, rejected):
    # Client 5 alone does harm: half of the others stand out too, by how much they are missed.
    found = evidence(honest() | {5: drawn(5, [1, 2, 0])})
    assert set(LeaveOneOut(RECIPE, threshold).rejected(found)) == rejected


def test_a_single_client_is_kept_by_leaving_out():
    assert LeaveOneOut(RECIPE, 1.0).rejected(evidence(honest(1))) == {}


def test_leaving_out_needs_images_of_the_server_and_no_other_defence_does():
    assert [d.needs_validation for d in DEFENCES] == [False, False, False, True]


BAD = {
    "defence.networks": lambda: ClassMeans(0, 1.0),
    "defence.threshold": lambda: ClassMeans(1, 0.0),
    "defence.attackers": lambda: Krum(0),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_values_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        BAD[name]()


@pytest.mark.parametrize("make", [Median, lambda t: LeaveOneOut(RECIPE, t)])
def test_a_threshold_below_zero_is_refused(make):
    with pytest.raises(ValueError, match=r"defence.threshold must be > 0"):
        make(-1.0)
