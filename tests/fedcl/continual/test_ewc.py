"""Elastic weight consolidation agrees with arithmetic and with a loop over images and labels."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from distill.images import LabelledImages
from distill.networks import MLP, ConvNet
from fedcl.continual.anchor import Anchor
from fedcl.continual.ewc import EWC, fisher, signed
from fedcl.continual.learner import answers_by_class

MANY = 20_000  # images, so that signs average out to a hundredth


class Slope(nn.Module):
    """Logits 0 and w x of an image with first pixel x: one weight, for numbers by hand."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(weight))

    def forward(self, images):
        x = images.flatten(1)[:, :1]
        return torch.cat([torch.zeros_like(x), self.w * x], 1)


def pixels(*values: float) -> LabelledImages:
    images = torch.zeros(len(values), 1, 8, 8)
    images[:, 0, 0, 0] = torch.tensor(values)
    return LabelledImages(images, torch.zeros(len(values)).long(), 2)


def random_images(rng: torch.Generator, count: int = 40) -> LabelledImages:
    return LabelledImages(torch.randn(count, 1, 8, 8, generator=rng), torch.arange(count) % 4, 4)


def left_by(method: EWC, network: nn.Module, data: LabelledImages, left, rng) -> Anchor:
    moment = SimpleNamespace(left=left, answers=None, rng=rng)
    return Anchor.left_in(method.lesson(moment).leave(network, data, data.rows(torch.arange(0))))


def test_fisher_of_one_weight_is_worked_by_hand(rng):
    # At w = 0 both classes have chance 1/2. Signs that differ give (1, -1)/sqrt(2), which moves
    # by x/sqrt(2) with w: squared x^2/2 = 2 for x = 2; equal signs give 0.
    found = {round(fisher(Slope(0.0), pixels(2.0), None, rng)["w"].item(), 5) for _ in range(20)}
    assert found == {0.0, 2.0}


def test_signs_stand_for_all_labels(rng):
    # s = sigmoid(3) = 0.9526: label 1 moves log p by 1-s, label 0 by -s, on average squared
    # s (1-s) = 0.04518. The true labels, all 0, would give s^2. Standard error 0.0003.
    data = pixels(*[1.0] * MANY)
    assert fisher(Slope(3.0), data, None, rng)["w"].item() == pytest.approx(0.04518, abs=1e-3)


@pytest.mark.parametrize("architecture", [MLP(5, 2), ConvNet(3, 2)], ids=["mlp", "convnet"])
@pytest.mark.parametrize("told", [False, True])
def test_fisher_agrees_with_a_loop_over_images_and_labels(architecture, told, rng, monkeypatch):
    network, data = architecture.build((1, 8, 8), 4), random_images(rng, 4)
    monkeypatch.setattr("fedcl.continual.ewc.ALIVE", 100_000)  # in chunks
    answers = answers_by_class([[0, 2], [1, 3]], 4) if told else None
    often = data.rows(torch.arange(4).repeat(500))  # so that signs average out
    quick, slow = (
        fisher(network, often, answers, rng),
        dict.fromkeys(dict(network.named_parameters()), 0.0),
    )
    for image, label in zip(data.images, data.labels, strict=True):
        allowed = [c for c in range(4) if not told or (c - label) % 2 == 0]
        for drawn in range(len(allowed)):
            chances = network(image[None])[0, allowed].log_softmax(0)
            gradients = torch.autograd.grad(chances[drawn], [*network.parameters()])
            for name, gradient in zip(slow, gradients, strict=True):
                slow[name] = slow[name] + chances[drawn].exp().detach() * gradient**2 / 4
    for name in quick:
        torch.testing.assert_close(quick[name], slow[name], rtol=0.15, atol=1e-4)


def test_each_image_has_its_own_gradient_squared(rng):
    # Of x = 1 and x = -1 a batch's mean gradient may vanish; squares don't.
    network, data = Slope(0.0), pixels(1.0, -1.0)
    draws, whole = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    directions = signed(torch.full((2, 2), 0.5), draws)
    expected = sum((x * v[1]) ** 2 for x, v in zip((1.0, -1.0), directions, strict=True)) / 2
    torch.testing.assert_close(fisher(network, data, None, whole)["w"], expected)


def test_a_class_that_is_no_answer_matters_not(rng):
    network = MLP(5, 1).build((1, 8, 8), 4)
    told = answers_by_class([[0, 1], [2, 3]], 4)
    data = random_images(rng)
    first = data.rows((data.labels < 2).nonzero().squeeze(1))
    bias = fisher(network, first, told, rng)["classifier.bias"]
    assert bias[2:].tolist() == [0.0, 0.0]
    assert (bias[:2] > 0).all()


def test_parabolas_of_two_experiences_are_one(rng):
    # Held at 4 by F = 1, now at 0 with F = 2^2/4 = 1: (w-4)^2 + w^2 is 2 (w-2)^2 and a constant.
    old = Anchor({"w": torch.tensor(4.0)}, {"w": torch.tensor(1.0)})
    anchor = left_by(EWC(1.0, None, MANY), Slope(0.0), pixels(*[2.0] * MANY), old.state(), rng)
    assert anchor.weights["w"].item() == pytest.approx(2.0, abs=0.05)
    assert anchor.importance["w"].item() == pytest.approx(2.0, abs=0.05)


def test_online_ewc_has_the_last_weights_and_decays_the_rest(rng):
    # 0.5 * 3 + 1, around where the network is now.
    old = Anchor({"w": torch.tensor(4.0)}, {"w": torch.tensor(3.0)})
    anchor = left_by(EWC(1.0, 0.5, MANY), Slope(0.0), pixels(*[2.0] * MANY), old.state(), rng)
    assert anchor.weights["w"].item() == 0.0
    assert anchor.importance["w"].item() == pytest.approx(2.5, abs=0.05)


def test_the_fisher_information_is_over_drawn_images(rng):
    # One of x = 2 and x = 4: x^2/2 or 0 by the signs, and not the mean of two.
    method, data = EWC(1.0, None, 1), pixels(2.0, 4.0)
    anchors = [left_by(method, Slope(0.0), data, {}, rng) for _ in range(30)]
    assert {round(anchor.importance["w"].item(), 4) for anchor in anchors} == {0.0, 2.0, 8.0}


def test_a_weight_that_never_mattered_stays_a_number(rng):
    old = Anchor({"w": torch.tensor(5.0)}, {"w": torch.tensor(0.0)})
    anchor = left_by(EWC(1.0, None, 9), Slope(3.0), pixels(0.0), old.state(), rng)
    assert anchor.weights["w"].item() == 5.0
    assert anchor.importance["w"].item() == 0.0


def test_the_pull_is_the_gradient_of_the_penalty(rng):
    network = MLP(3, 1).build((1, 4, 4), 2)
    weights = dict(network.named_parameters())
    anchor = Anchor(
        {k: torch.randn(w.shape, generator=rng) for k, w in weights.items()},
        {k: torch.rand(w.shape, generator=rng) for k, w in weights.items()},
    )
    penalty = sum(
        (anchor.importance[k] * (w - anchor.weights[k]) ** 2).sum() for k, w in weights.items()
    )
    (3.0 / 2 * penalty).backward()
    expected = {k: w.grad.clone() for k, w in weights.items()}
    for w in weights.values():
        w.grad.fill_(1.0)
    anchor.pull_(network, 3.0, 0.1)
    for k, w in weights.items():
        torch.testing.assert_close(w.grad, expected[k] + 1)


def test_a_step_takes_a_weight_back_and_never_past():
    # Held at 2 by 1000, now at 5: at step size 1/2 the gradient is 3 / (1/2), not 3000.
    network = Slope(5.0)
    network.w.grad = torch.tensor(0.0)
    Anchor({"w": torch.tensor(2.0)}, {"w": torch.tensor(1000.0)}).pull_(network, 1.0, 0.5)
    assert network.w.grad.item() == 6.0


def test_an_anchor_comes_back_from_its_state():
    anchor = Anchor({"a": torch.ones(2)}, {"a": torch.zeros(2)})
    back = Anchor.left_in(anchor.state())
    assert (list(back.weights), list(back.importance)) == (["a"], ["a"])
    assert back.weights["a"] is anchor.weights["a"]
    assert back.importance["a"] is anchor.importance["a"]
    assert Anchor.left_in({}) is None


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match=r"continual.strength must be >= 0, got -1"):
        EWC(-1.0, None, 9)
    with pytest.raises(ValueError, match=r"continual.decay must be in \[0, 1\], got 2"):
        EWC(1.0, 2.0, 9)
    with pytest.raises(ValueError, match=r"continual.images must be >= 1, got 0"):
        EWC(1.0, None, 0)
