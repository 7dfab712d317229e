"""Steps of a client's round follow from its images."""

from dataclasses import replace

import pytest

from fedcl.federated.local_steps import carried, check_equal_steps, steps


def test_the_last_batch_of_an_epoch_is_a_step(plain):
    assert [steps(plain(epochs=2, batch=4), images) for images in (1, 4, 5, 8)] == [2, 2, 4, 4]


def test_the_count_is_that_of_the_training_loop(plain, world, monkeypatch, rng):
    from distill.training import Additions, train

    taken = []
    additions = Additions(adjust_gradients=taken.append)
    for images in (6, 9, 12):
        taken.clear()
        data = world.clients[0][0].rows(list(range(images)))
        train(world.first_network(), data, plain(epochs=3), rng, additions)
        assert len(taken) == steps(plain(epochs=3), images)


def test_a_constant_gradient_is_carried_further_by_momentum(plain):
    # 3 steps of 0.1, and ten times that far with momentum 0.9
    assert carried(plain(epochs=3), 4) == pytest.approx(0.3)
    assert carried(plain(epochs=3, momentum=0.9), 4) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"optimiser": "adam"}, "training.optimiser must be sgd .* got adam"),
        ({"clip": 1.0}, "training.clip must be null .* got 1.0"),
        ({"decay_after": 1}, "training.decay_after and training.schedule must be null"),
    ],
)
def test_unequal_steps_are_refused(plain, change, reason):
    with pytest.raises(ValueError, match=reason):
        check_equal_steps(replace(plain(), **change))
