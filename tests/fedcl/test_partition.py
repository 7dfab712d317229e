"""Partitions give every image to exactly one client, and are as skewed as they say."""

import math
from pathlib import Path

import pytest
import torch
import yaml

from distill.rng import derive
from fedcl import partition
from fedcl.heterogeneity import class_counts, feature_shift, heterogeneity, quantity_skew
from fedcl.partition import ClassesPerClient, Dirichlet, Iid, Quantity, Shards

CONFIGS = Path(__file__).parents[2] / "configs" / "partition"
KINDS = [Iid(), Dirichlet(0.1), Dirichlet(100.0), Quantity(0.5), Shards(2), ClassesPerClient(2)]
# 10 classes of 30 images each, in an order that mixes them.
LABELS = torch.arange(300) * 7 % 10


@pytest.mark.parametrize("kind", [*KINDS, Dirichlet(1e-6), Quantity(1e-6)], ids=str)
@pytest.mark.parametrize("clients", [5, 7, 30, 150])
def test_every_image_has_exactly_one_client_and_every_client_an_image(rng, kind, clients):
    parts = kind.split(LABELS, 10, clients, rng)
    assert len(parts) == clients
    assert torch.cat(parts).sort().values.tolist() == list(range(300))
    assert all(len(rows) and rows.dtype == torch.int64 for rows in parts)
    assert all(rows.tolist() == sorted(rows.tolist()) for rows in parts)


@pytest.mark.parametrize(
    "kind", [Iid(), Dirichlet(1e-3), Quantity(1e-3), Shards(1), ClassesPerClient(3)], ids=str
)
def test_as_many_clients_as_images_get_one_each(rng, kind):
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 2])
    parts = kind.split(labels, 3, 7, rng)
    assert sorted(rows.tolist() for rows in parts) == [[i] for i in range(7)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_single_client_gets_everything(rng, kind):
    if isinstance(kind, ClassesPerClient):
        kind = ClassesPerClient(10)
    assert kind.split(LABELS, 10, 1, rng)[0].tolist() == list(range(300))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_equal_generators_give_equal_partitions(kind):
    first, again, other = (kind.split(LABELS, 10, 6, derive(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_partition_does_not_touch_the_labels(rng, kind):
    labels = LABELS.clone()
    kind.split(labels, 10, 6, rng)
    assert torch.equal(labels, LABELS)


def test_iid_sizes_differ_by_one_at_most(rng):
    # 300 = 6 * 43 + 42, so six clients of 43 and one of 42.
    sizes = sorted(len(rows) for rows in Iid().split(LABELS, 10, 7, rng))
    assert sizes == [42, 43, 43, 43, 43, 43, 43]


@pytest.mark.parametrize(
    "kind", [Iid(), Dirichlet(100.0), Quantity(100.0), Shards(1), ClassesPerClient(1)], ids=str
)
def test_clients_get_random_images_of_a_class(rng, kind):
    # Unshuffled, each client would hold consecutive images of the one class.
    parts = kind.split(torch.zeros(200, dtype=torch.int64), 1, 4, rng)
    assert all(rows.diff().max() > 1 for rows in parts)


# -- Dirichlet ----------------------------------------------------------------------------


def test_dirichlet_proportions_have_the_moments_of_the_distribution(rng):
    # Dir(a) over K = 4: mean 1/K = 0.25, variance (1/K)(1 - 1/K) / (K a + 1) = 0.1875 / 3.
    draws = torch.stack([partition._dirichlet(0.5, 4, rng) for _ in range(20_000)])
    assert torch.allclose(draws.sum(1), torch.ones(1, dtype=torch.float64))
    # Standard error of the mean: sqrt(0.0625 / 20,000) = 0.0018; five of them.
    assert (draws.mean(0) - 0.25).abs().max() < 0.009
    assert (draws.var(0) - 0.0625).abs().max() < 0.005


@pytest.mark.parametrize("alpha", [1e-8, 1e-3, 1.0, 1e8])
def test_dirichlet_proportions_never_underflow(rng, alpha):
    for _ in range(200):
        p = partition._dirichlet(alpha, 50, rng)
        assert p.isfinite().all()
        assert p.sum().item() == pytest.approx(1)


def test_dirichlet_cuts_each_class_at_the_rounded_cumulative_proportions(monkeypatch, rng):
    # p = (0.5, 0.3, 0.2): of 10 images of class 0 the cuts are 5 and 8: 5, 3, 2 images;
    # of 6 images of class 1 the cuts are 3 and 4.8, rounded 5: 3, 2, 1.
    proportions = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    monkeypatch.setattr(partition, "_dirichlet", lambda *args: proportions)
    labels = torch.tensor([0] * 10 + [1] * 6)
    counts = class_counts(Dirichlet(1.0).split(labels, 2, 3, rng), labels, 2)
    assert counts.tolist() == [[5, 3], [3, 2], [2, 1]]


def test_dirichlet_has_no_size_cap(rng):
    # With the cap no client could exceed 300 / 10 by a whole class; with one owner a class
    # and ten clients, a cap-free draw puts two classes of 30 on some client.
    sizes = [len(rows) for rows in Dirichlet(1e-4).split(LABELS, 10, 10, rng)]
    assert max(sizes) >= 58


def test_small_alpha_is_more_heterogeneous_than_large():
    # Alpha to infinity is alike clients, 0; alpha to 0 is one class a client, 1 - 1/10.
    values = [
        heterogeneity(class_counts(Dirichlet(alpha).split(LABELS, 10, 10, derive(0)), LABELS, 10))
        for alpha in (1e-4, 0.5, 1e6)
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.75
    assert values[2] < 0.05


def test_quantity_skew_is_the_share_of_images_that_would_have_to_move():
    # Of 12 images clients have 6, 4 and 2, where 4 each were even: 2 would have to move.
    assert quantity_skew(torch.tensor([[3, 3], [4, 0], [1, 1]])) == pytest.approx(2 / 12)
    assert quantity_skew(torch.tensor([[3, 1], [0, 4]])) == 0.0
    assert quantity_skew(torch.tensor([[9997], [1], [1], [1]])) == pytest.approx(3 / 4, abs=1e-3)
    with pytest.raises(ValueError, match="an image in each client"):
        quantity_skew(torch.tensor([[1, 0], [0, 0]]))


def test_feature_shift_is_in_deviations_of_the_images():
    # Values 0 and 4: deviation 2. Clients see them as they are, 1 higher, and 2 off in one of two.
    images = torch.tensor([0.0, 4.0]).view(2, 1, 1, 1)
    seen = [images, images + 1, images + torch.tensor([2.0, 0.0]).view(2, 1, 1, 1)]
    assert feature_shift(images, seen) == pytest.approx((0 + 1 / 2 + math.sqrt(2) / 2) / 3)


@pytest.mark.parametrize("kind", [Dirichlet, Quantity])
@pytest.mark.parametrize("alpha", [-1, 0, math.nan])
def test_alpha_must_be_positive(kind, alpha):
    with pytest.raises(ValueError, match=f"partition.alpha must be > 0, got {alpha}"):
        kind(alpha)


@pytest.mark.parametrize("kind", [Dirichlet, Quantity])
def test_infinite_alpha_is_refused(kind):
    with pytest.raises(ValueError, match=r"partition.alpha must be finite, got inf; use .*=iid"):
        kind(math.inf)


# -- quantity -----------------------------------------------------------------------------


def test_quantity_cuts_all_images_at_the_rounded_cumulative_proportions(monkeypatch, rng):
    # p = (0.5, 0.36, 0.14): of 10 images the cuts are 5 and 8.6, rounded 9: 5, 4, 1 images.
    proportions = torch.tensor([0.5, 0.36, 0.14], dtype=torch.float64)
    monkeypatch.setattr(partition, "_dirichlet", lambda *args: proportions)
    parts = Quantity(1.0).split(torch.zeros(10, dtype=torch.int64), 1, 3, rng)
    assert [len(rows) for rows in parts] == [5, 4, 1]


def test_quantity_skews_sizes_and_leaves_classes_alike():
    # Two classes of 5,000 images: a client of n images has n / 2 of either, with a standard
    # deviation of at most sqrt(n) / 2; four of those.
    labels = torch.arange(10_000) % 2
    counts = class_counts(Quantity(0.5).split(labels, 2, 5, derive(0)), labels, 2).double()
    sizes = counts.sum(1)
    assert sizes.max() > 3 * sizes.min()
    assert ((counts[:, 0] - sizes / 2).abs() <= 2 * sizes.sqrt()).all()


def test_sizes_become_equal_with_large_alpha(rng):
    # Shares of Dir(1e8) over 5: standard deviation sqrt(0.2 * 0.8 / 5e8) = 2e-5 of 300 images.
    sizes = [len(rows) for rows in Quantity(1e8).split(LABELS, 10, 5, rng)]
    assert sizes == [60] * 5


# -- none empty ---------------------------------------------------------------------------


def test_empty_clients_take_one_image_each_of_the_then_largest(rng):
    # Sizes 3, 0, 2, 0: the first empty client takes one of the three, leaving 2, 1, 2, 0;
    # the second takes from the first of the two largest.
    parts = [torch.tensor(rows, dtype=torch.int64) for rows in ([4, 2, 9], [], [1, 0], [])]
    filled = [rows.tolist() for rows in partition._none_empty(parts, rng)]
    assert [len(rows) for rows in filled] == [1, 1, 2, 1]
    assert filled[2] == [0, 1]
    assert sorted(filled[0] + filled[1] + filled[3]) == [2, 4, 9]
    assert [len(rows) for rows in parts] == [3, 0, 2, 0]


def test_the_image_that_an_empty_client_gets_is_drawn():
    parts = [torch.arange(8), torch.empty(0, dtype=torch.int64)]
    given = {partition._none_empty(parts, derive(seed))[1].item() for seed in range(20)}
    assert len(given) > 4


# -- shards -------------------------------------------------------------------------------


def test_shards_are_contiguous_in_the_sorted_labels(rng):
    # 300 images, 5 clients of 2 shards: ten shards of 30, each exactly one class.
    counts = class_counts(Shards(2).split(LABELS, 10, 5, rng), LABELS, 10)
    assert (counts > 0).sum(1).tolist() == [2] * 5
    assert counts.sum(0).tolist() == [30] * 10
    assert set(counts.flatten().tolist()) == {0, 30}


def test_shards_are_dealt_at_random():
    # Ten shards of one class each; dealt in order, the clients would hold 0 1, 2 3, 4 5, ...
    hands = set()
    for seed in range(5):
        counts = class_counts(Shards(2).split(LABELS, 10, 5, derive(seed)), LABELS, 10)
        hands |= {tuple(row.nonzero().flatten().tolist()) for row in counts}
    assert len(hands) > 5


def test_shards_of_uneven_division_differ_by_one(rng):
    # 300 images in 7 shards: 43 six times and 42 once.
    sizes = sorted(len(rows) for rows in Shards(1).split(LABELS, 10, 7, rng))
    assert sizes == [42, 43, 43, 43, 43, 43, 43]


def test_more_shards_than_images_are_refused(rng):
    with pytest.raises(ValueError, match=r"shards_per_client must be <= 300, .* got 302"):
        Shards(2).split(LABELS, 10, 151, rng)


def test_shards_per_client_must_be_one_or_more():
    with pytest.raises(ValueError, match=r"partition.shards_per_client must be >= 1, got 0"):
        Shards(0)


# -- classes per client -------------------------------------------------------------------


@pytest.mark.parametrize(("clients", "k"), [(10, 1), (5, 2), (4, 3), (12, 3), (3, 10)])
def test_clients_hold_k_classes_and_every_class_has_an_owner(rng, clients, k):
    counts = class_counts(ClassesPerClient(k).split(LABELS, 10, clients, rng), LABELS, 10)
    assert (counts > 0).sum(1).tolist() == [k] * clients
    owners = (counts > 0).sum(0)
    assert owners.min() >= 1
    assert owners.max() - owners.min() <= 1


def test_a_class_is_divided_evenly_among_its_owners(rng):
    # 8 clients of 5 classes own 40 times: each class four times, 30 = 8 + 8 + 7 + 7.
    counts = class_counts(ClassesPerClient(5).split(LABELS, 10, 8, rng), LABELS, 10)
    for column in counts.T.tolist():
        assert sorted(n for n in column if n) == [7, 7, 8, 8]


def test_classes_without_images_need_no_owner(rng):
    labels = torch.tensor([0, 0, 5, 5, 9, 9])
    counts = class_counts(ClassesPerClient(1).split(labels, 10, 3, rng), labels, 10)
    assert sorted(counts[:, [0, 5, 9]].tolist()) == [[0, 0, 2], [0, 2, 0], [2, 0, 0]]


def test_more_classes_than_there_are_are_refused(rng):
    with pytest.raises(ValueError, match=r"partition.classes must be <= 10, .* got 11"):
        ClassesPerClient(11).split(LABELS, 10, 5, rng)


def test_too_few_hands_for_the_classes_are_refused(rng):
    with pytest.raises(ValueError, match=r"partition.classes must be >= 10, .* got 3 \* 3"):
        ClassesPerClient(3).split(LABELS, 10, 3, rng)


def test_classes_must_be_one_or_more():
    with pytest.raises(ValueError, match=r"partition.classes must be >= 1, got 0"):
        ClassesPerClient(0)


# -- what all of them refuse --------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(
    ("labels", "clients", "message"),
    [
        (LABELS, 0, "clients must be >= 1, got 0"),
        (LABELS, 301, "clients must be <= 300, the number of images, got 301"),
        (LABELS + 1, 5, r"labels must be in \[0, 10\), got 1 to 10"),
        (LABELS - 1, 5, r"labels must be in \[0, 10\), got -1 to 8"),
        (LABELS.float(), 5, r"labels must be int64 of shape \(N,\), got torch.float32 of \(300,\)"),
        (LABELS[None], 5, r"labels must be int64 of shape \(N,\), got torch.int64 of \(1, 300\)"),
    ],
)
def test_impossible_divisions_are_refused(rng, kind, labels, clients, message):
    with pytest.raises(ValueError, match=message):
        kind.split(labels, 10, clients, rng)


def test_clients_must_be_a_whole_number(rng):
    with pytest.raises(TypeError, match=r"clients must be a whole number, got 2.0"):
        Iid().split(LABELS, 10, 2.0, rng)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("iid", Iid()),
        ("dirichlet", Dirichlet(0.1)),
        ("quantity", Quantity(0.5)),
        ("shards", Shards(2)),
        ("classes", ClassesPerClient(2)),
    ],
)
def test_configs_build_their_partition_and_say_what_it_is(name, kind):
    text = (CONFIGS / f"{name}.yaml").read_text()
    assert text.startswith(f"# {name}: ")
    config = yaml.safe_load(text)
    assert config.pop("_target_") == f"fedcl.partition.{type(kind).__name__}"
    assert type(kind)(**config) == kind
