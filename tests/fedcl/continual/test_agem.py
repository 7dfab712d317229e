"""A-GEM takes from a step what would raise the memory's loss, and nothing else."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.coresets import Random
from distill.images import LabelledImages
from distill.networks import MLP
from fedcl.continual.agem import AGEM, project_
from fedcl.continual.base import Batch
from fedcl.memory import Budget
from fedcl.stores.float32 import Float32

METHOD = AGEM(Random(), Budget(6, None, "fixed", Float32()), 4)


def lesson(held: LabelledImages | None = None, sample: int = 4):
    rng = torch.Generator().manual_seed(0)
    recipe = SimpleNamespace(precision="float32")
    method = AGEM(METHOD.method, METHOD.buffer, sample)
    return method.lesson(SimpleNamespace(held=held, rng=rng, recipe=recipe))


def batch(labels: list[int], fresh: int, rng: torch.Generator) -> Batch:
    images = torch.randn(len(labels), 1, 4, 4, generator=rng)
    rows = torch.arange(len(labels) - fresh)
    return Batch(images, images, torch.tensor(labels), fresh, rows, None)


def vector(tensors) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def test_projection_is_worked_by_hand():
    # <(3, -4), (0, 2)> = -8, over 4: (3, -4) + 2 (0, 2) = (3, 0).
    gradients = [torch.tensor([3.0]), torch.tensor([-4.0])]
    project_(gradients, [torch.tensor([0.0]), torch.tensor([2.0])])
    assert vector(gradients).tolist() == [3.0, 0.0]


def test_a_gradient_without_conflict_stays():
    gradients = [torch.tensor([3.0]), torch.tensor([4.0])]
    project_(gradients, [torch.tensor([0.1]), torch.tensor([2.0])])
    assert vector(gradients).tolist() == [3.0, 4.0]


@pytest.mark.parametrize("conflict", [False, True])
def test_step_agrees_with_the_formula(conflict, rng):
    network = MLP(5, 1).build((1, 4, 4), 2)
    seen = batch([0, 0, 0, 1, 1] if conflict else [0, 0, 0, 0, 0], 3, rng)
    weights = list(network.parameters())
    parts = [
        torch.autograd.grad(F.cross_entropy(network(seen.images[p]), seen.labels[p]), weights)
        for p in (slice(0, 3), slice(3, 5))
    ]
    g, r = (vector(part) for part in parts)
    assert (g @ r < 0) == conflict
    expected = g - (g @ r) / (r @ r) * r if conflict else g
    taught = lesson()
    taught.loss(network, seen).backward()
    taught.adjust(network, seen)
    torch.testing.assert_close(vector(w.grad for w in weights), expected)


def test_a_step_without_memory_is_plain(rng):
    network, seen = MLP(5, 1).build((1, 4, 4), 2), batch([0, 1, 0], 3, rng)
    taught = lesson()
    taught.loss(network, seen).backward()
    before = [w.grad.clone() for w in network.parameters()]
    taught.adjust(network, seen)
    assert all(torch.equal(w.grad, b) for w, b in zip(network.parameters(), before, strict=True))


def test_images_are_drawn_without_replacement():
    held = LabelledImages(torch.zeros(6, 1, 8, 8), torch.zeros(6).long(), 2)
    few = lesson(held).choose(None, None, held)
    assert len(few) == len(few.unique()) == 4
    assert sorted(lesson(held, 9).choose(None, None, held).tolist()) == [0, 1, 2, 3, 4, 5]


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match=r"continual.sample must be >= 1, got 0"):
        AGEM(METHOD.method, METHOD.buffer, 0)
