"""Experts are trained once and found again; those of anything else are refused."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file, save_file

from distill.augment import Augmentation
from distill.condenser import Task
from distill.expert import Buffer, Experts
from distill.expert_store import ExpertStore, described
from distill.images import LabelledImages, Normalisation
from distill.networks import MLP, ConvNet
from distill.real import RealData
from distill.tensor_file import read_tensors
from distill.training import Recipe

RECIPE = Recipe(1, 4, 0.1, 0.0, 0.0, None, Augmentation(["flip"], True))
HALF = Normalisation([0.5], [0.25])


@pytest.fixture
def task(rng) -> Task:
    images = torch.randn(12, 1, 8, 8, generator=rng)
    real = LabelledImages(images, torch.arange(3).repeat_interleave(4), 3)
    return Task(real, torch.tensor([1, 1, 1]), HALF, 7)


@pytest.fixture
def experts(tmp_path) -> Experts:
    return Experts(ConvNet(3, 1), 2, 3, RECIPE, None, folder=str(tmp_path / "made" / "here"))


def begun(experts: Experts, task: Task) -> Buffer:
    return experts.begin(RealData(task), {})


def never_trained(*_args, **_kwargs) -> None:
    raise AssertionError("an expert was trained again")


def test_an_expert_is_trained_once_and_found_by_a_later_run(experts, task, monkeypatch):
    first = begun(experts, task).trajectory(1)
    monkeypatch.setattr("distill.expert.train", never_trained)
    torch.testing.assert_close(begun(experts, task).trajectory(1), first, rtol=0, atol=0)


def test_a_kept_expert_is_the_one_that_would_be_trained_anew(experts, task):
    kept = begun(experts, task).trajectory(1)
    alone = begun(replace(experts, folder=None), task).trajectory(1)
    torch.testing.assert_close(kept, alone, rtol=0, atol=0)


def test_the_points_of_a_kept_expert_differ_from_each_other(experts, task):
    begun(experts, task).trajectory(0)
    points = begun(experts, task).trajectory(0)
    assert len(points) == 4
    assert all(
        (b["classifier.weight"] != a["classifier.weight"]).any() for a, b in pairwise(points)
    )


def test_fewer_epochs_are_the_beginning_of_more(experts, task):
    more = begun(experts, task).trajectory(0)
    fewer = begun(replace(experts, epochs=2), task).trajectory(0)
    torch.testing.assert_close(fewer, more[:3], rtol=0, atol=0)


def test_experts_in_a_folder_are_left_out_of_the_checkpoint(experts, task):
    buffer = begun(experts, task)
    buffer.trajectory(0)
    assert buffer.state() == {}
    assert sorted(file.name for file in buffer.store.folder.iterdir()) == ["0.safetensors"]


def test_experts_with_a_seed_serve_tasks_of_any_seed(experts, task, monkeypatch):
    seeded, other = replace(experts, seed=3), replace(task, seed=8)
    first = begun(seeded, task).trajectory(0)
    alone = begun(replace(seeded, folder=None), other).trajectory(0)
    torch.testing.assert_close(first, alone, rtol=0, atol=0)
    monkeypatch.setattr("distill.expert.train", never_trained)
    torch.testing.assert_close(begun(seeded, other).trajectory(0), first, rtol=0, atol=0)
    assert not torch.equal(
        begun(experts, task).network.classifier.weight,
        begun(seeded, task).network.classifier.weight,
    )


@pytest.mark.parametrize(
    ("changes", "field", "there", "wanted"),
    [
        (
            {"architecture": MLP(3, 1)},
            r"experts\.architecture",
            r"ConvNet\(width=3, depth=1\)",
            r"MLP\(width=3, depth=1\)",
        ),
        ({"recipe": replace(RECIPE, batch=6)}, r"experts\.recipe\.batch", "4", "6"),
        ({"recipe": replace(RECIPE, momentum=0.5)}, r"experts\.recipe\.momentum", r"0\.0", r"0\.5"),
        (
            {"recipe": replace(RECIPE, augmentation=Augmentation([], False))},
            r"experts\.recipe\.augmentation",
            r"{'families': \['flip'\], .*",
            r"{'families': \[\], .*",
        ),
        ({"seed": 8}, r"experts\.seed", "7", "8"),
        ({"epochs": 4}, r"experts\.epochs", "<= 3", "4"),
        ({"images": 6}, "the images of experts", "12 images of .*", "6 images of .*"),
    ],
)
def test_experts_of_another_kind_are_refused(experts, task, changes, field, there, wanted):
    begun(experts, task).trajectory(0)
    message = (
        rf"^{field} must be {there}, as in /.*/here/0\.safetensors, got {wanted}; "
        r"take that, or name another experts\.folder$"
    )
    with pytest.raises(ValueError, match=message):
        begun(replace(experts, **changes), task).trajectory(0)


def test_experts_of_other_images_are_refused(experts, task):
    begun(experts, task).trajectory(0)
    images = task.real.images.clone()
    images[5, 0, 3, 3] += 1e-6
    moved = replace(task, real=replace(task.real, images=images))
    message = (
        r"^the images of experts must be 12 images of 1x8x8 in 3 classes \(SHA-256 (\w{12})\), "
        r"as in .*, got 12 images of 1x8x8 in 3 classes \(SHA-256 (?!\1)\w{12}\); take that, or"
    )
    with pytest.raises(ValueError, match=message):
        begun(experts, moved).trajectory(0)


def test_a_description_changes_with_any_label(task):
    labels = task.real.labels.clone()
    labels[0] = 1
    assert described(task.real) != described(replace(task.real, labels=labels))
    assert described(task.real) == described(replace(task.real, images=task.real.images.clone()))


def rewritten(buffer: Buffer, number: int, change) -> None:
    """Puts other tensors into an expert's file, which still says that it is the same expert."""
    path = buffer.store.path(number)
    _, metadata = read_tensors("", path)
    save_file(change(load_file(path)), path, metadata)


def test_a_constant_trajectory_is_refused(experts, task):
    # What a buffer holds whose points were all the live weights: the last ones, everywhere.
    begun(experts, task).trajectory(0)
    rewritten(
        begun(experts, task),
        0,
        lambda tensors: {k: tensors[f"3/{k.partition('/')[2]}"].clone() for k in tensors},
    )
    message = (
        r"^expert 0 in /.*/0\.safetensors must move a finite way in every epoch, got a squared "
        r"distance of 0\.0; delete the file$"
    )
    with pytest.raises(FloatingPointError, match=message):
        begun(experts, task).trajectory(0)


def test_a_trajectory_that_is_not_finite_is_refused(experts, task):
    begun(experts, task).trajectory(0)
    rewritten(begun(experts, task), 0, lambda t: {k: v * float("nan") for k, v in t.items()})
    with pytest.raises(FloatingPointError, match=r"must move a finite way .*, got .* nan; delete"):
        begun(experts, task).trajectory(0)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "2/classifier.bias"}, "None"),
        (lambda t: t | {"2/classifier.bias": torch.zeros(5)}, r"\(5,\)"),
    ],
)
def test_a_file_that_lacks_a_weight_is_refused(experts, task, change, found):
    begun(experts, task).trajectory(0)
    rewritten(begun(experts, task), 0, change)
    message = (
        r"^experts\.folder must hold weights classifier\.bias of shape \(3,\) for epoch 2, "
        rf"got {found} in .*; delete the file$"
    )
    with pytest.raises(ValueError, match=message):
        begun(experts, task).trajectory(0)


def test_a_file_that_says_nothing_of_itself_is_refused(experts, task):
    buffer = begun(experts, task)
    buffer.trajectory(0)
    save_file(load_file(buffer.store.path(0)), buffer.store.path(0))
    with pytest.raises(
        ValueError, match=r"^experts\.architecture must be what it doesn't say, as in"
    ):
        begun(experts, task).trajectory(0)


def test_another_kind_of_file_is_refused(experts, task):
    path = begun(experts, task).store.path(0)
    path.parent.mkdir(parents=True)
    path.write_text("no expert")
    with pytest.raises(
        ValueError, match=r"^experts\.folder must name a safetensors file, got .*0\.s"
    ):
        begun(experts, task).trajectory(0)


def test_what_is_half_written_is_no_expert(tmp_path, monkeypatch):
    def full(_tensors, path, _metadata):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    store = ExpertStore(tmp_path, {})
    monkeypatch.setattr("distill.expert_store.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        store.save(0, [{"w": torch.zeros(1)}])
    assert not store.path(0).exists()


def test_a_seed_below_zero_is_refused(experts):
    with pytest.raises(ValueError, match=r"^experts\.seed must be >= 0, got -1$"):
        replace(experts, seed=-1)
