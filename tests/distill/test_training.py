"""The loop does what its recipe says, step by step."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from distill.augment import Augmentation
from distill.evaluate import Evaluation
from distill.images import LabelledImages
from distill.networks import MLP, fresh
from distill.training import Additions, Recipe, score, train

PLAIN = Augmentation([], mirror=False)


def data(count: int = 6) -> LabelledImages:
    rng = torch.Generator().manual_seed(2)
    return LabelledImages(torch.randn(count, 1, 8, 8, generator=rng), torch.arange(count) % 3, 3)


def recipe(epochs=1, momentum=0.0, decay=0.0, decay_after=None) -> Recipe:
    return Recipe(epochs, 100, 0.1, momentum, decay, decay_after, PLAIN)


def network() -> nn.Module:
    return fresh(MLP(4, 1), (1, 8, 8), 3, torch.Generator().manual_seed(0))


def naive(steps: list[float], momentum: float, decay: float, restart: int | None) -> nn.Module:
    """Whole-batch descent written out: v = m v + (g + d w), w -= step v."""
    trained, speed = network(), {}
    for index, step in enumerate(steps):
        speed = {} if index == restart else speed
        loss = F.cross_entropy(trained(data().images), data().labels)
        gradients = torch.autograd.grad(loss, list(trained.parameters()))
        with torch.no_grad():
            for key, (w, g) in enumerate(zip(trained.parameters(), gradients, strict=True)):
                speed[key] = momentum * speed.get(key, torch.zeros_like(w)) + g + decay * w
                w -= step * speed[key]
    return trained


def assert_equal_weights(first: nn.Module, second: nn.Module) -> None:
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_training_is_descent_with_momentum_and_decay(rng):
    trained = network()
    train(trained, data(), recipe(3, momentum=0.9, decay=0.01), rng)
    assert_equal_weights(trained, naive([0.1] * 3, 0.9, 0.01, None))


def test_the_step_is_a_tenth_and_momentum_starts_again_after_decay(rng):
    trained = network()
    train(trained, data(), recipe(4, momentum=0.9, decay_after=2), rng)
    assert_equal_weights(trained, naive([0.1, 0.1, 0.01, 0.01], 0.9, 0.0, 2))


def test_gradients_can_be_changed_before_the_step(rng):
    def zero(trained: nn.Module) -> None:
        for parameter in trained.parameters():
            parameter.grad.zero_()

    trained = network()
    train(trained, data(), recipe(2), rng, Additions(adjust_gradients=zero))
    assert_equal_weights(trained, network())


def test_every_batch_brings_as_many_memory_images_as_it_has(rng):
    seen = []

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append((len(images), int((images == 7).all((1, 2, 3)).sum())))
            return self.inner(images)

    memory = LabelledImages(torch.full((2, 1, 8, 8), 7.0), torch.tensor([0, 1]), 3)
    batches = Recipe(1, 4, 0.1, 0.0, 0.0, None, PLAIN)
    train(Watching(), data(), batches, rng, Additions(replayed=memory))
    assert seen == [(8, 4), (4, 2)]


def test_score_counts_and_averages():
    class Sure(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[2.0, 0.0, 0.0]]).expand(len(images), 3)

    accuracy, loss = score(Sure(), data(6))
    # two of six labels are 0; log(e^2 + 2) = 2.2395: loss is that minus 2 for a third of them
    assert accuracy == pytest.approx(2 / 6)
    assert loss == pytest.approx(2.2395 - 2 / 3, abs=1e-4)


def test_no_image_is_refused(rng):
    empty = data(6).rows(torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="data must hold at least one image"):
        train(network(), empty, recipe(), rng)
    with pytest.raises(ValueError, match="data must hold at least one image"):
        score(network(), empty)


def test_equal_seeds_pair_the_evaluations_of_two_sets():
    evaluation = Evaluation(recipe(2), 3)
    first, again, other = (
        list(evaluation.accuracies(data(), data(), MLP(4, 1), seed)) for seed in (0, 0, 1)
    )
    assert len(first) == 3
    assert first == again != other
