"""Every method that rehearses takes distilled and real memories, told tasks or not, and resumes."""

import pytest
import torch

from experiments.build import plan
from fedcl.continual.learner import Learner

METHODS = ["er_ace", "mir", "scr", "der", "icarl"]
TOY = [
    *("buffer.images=20", "network=mlp", "network.width=16", "dataset.train_images=150"),
    *("stream.experiences=3", "stream.sizes=[4,3,3]", "training.epochs=1"),
]
ARMS = {
    "class-incremental": ["method=dm", "method.iterations=1"],
    "task-incremental": ["method=random", "stream=task_incremental"],
}


def learner_of(words: list[str]) -> Learner:
    return plan("continual", [*words, *TOY]).scenario.prepare("cpu").learner


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_goes_on_from_what_was_written_down(method, arm):
    words = [f"continual={method}", *ARMS[arm]]
    whole, again = learner_of(words), learner_of(words)
    assert 0 <= min(whole.accuracies()) <= max(whole.accuracies()) < 1
    whole.learn(0)
    whole.learn(1)
    again.restore(whole.state())
    for learner in (whole, again):
        learner.learn(2)
    for mine, theirs in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert whole.left.keys() == again.left.keys()
    assert all(torch.equal(whole.left[name], again.left[name]) for name in whole.left)
    assert whole.accuracies() == again.accuracies()
    assert whole.memory.data().counts.tolist() == [2] * 10


def test_what_a_trajectory_takes_is_known_before_there_is_one():
    words = ["continual=replay", "method=mtt", "method.iterations=2", "objective.inner_steps=1"]
    given = ["objective=given_trajectory", "objective.terminal.span=1"]
    work, _ = learner_of([*words, *given]).work()
    filling = [piece.do(1) for piece in work if piece.name == "filling memories"]
    assert filling == [2, 2, 2]  # steps of each experience


KEPT = {"er_ace": 0, "mir": 0, "scr": 0, "der": 4 * 2 * 10 * 4}  # two images of four classes


@pytest.mark.parametrize("method", METHODS)
def test_bytes_beside_the_memory_are_counted(method):
    learner = learner_of([f"continual={method}", "method=random"])
    learner.learn(0)
    weights = sum(weight.numel() * 4 for weight in learner.network.parameters())
    assert learner.kept_bytes == KEPT.get(method, weights)
