"""What clients of a composed federated run have."""

import pytest
import torch

from experiments.build import plan

RUNS = {
    "federated": ["federated=fedavg", "clients=3", "network=mlp"],
    "federated_continual": [
        "federated_continual=fedavg",
        "clients=3",
        "network=mlp",
        "stream.experiences=2",
    ],
}


def prepared(kind: str, *words: str):
    return plan(kind, [*RUNS[kind], *words]).scenario.prepare("cpu")


@pytest.mark.parametrize("kind", RUNS)
def test_clients_train_on_images_as_they_see_them(kind):
    # Clients of 3 see noise of 0.1, 0.2 and 0.3 on pixels; the digits' deviation is 0.3761.
    plain = prepared(kind, "partition=iid").world
    noisy = prepared(kind, "partition=iid", "shift=noise", "shift.sigma=0.3").world
    noises = [
        [after.images - before.images for before, after in zip(*client, strict=True)]
        for client in zip(plain.clients, noisy.clients, strict=True)
    ]
    for client, parts in enumerate(noises):
        deviation = torch.cat(parts).std().item()
        assert deviation == pytest.approx(0.1 * (client + 1) / 0.3761, rel=0.02)
    drawn = [part[:100] / part.std() for parts in noises for part in parts]
    for i, noise in enumerate(drawn):
        assert all((noise - other).abs().max() > 1 for other in drawn[:i])


@pytest.mark.parametrize("kind", RUNS)
def test_a_shift_leaves_the_partition_as_it_is(kind):
    plain, turned = (prepared(kind, f"shift={name}").world for name in ("none", "rotation"))
    for before, after in zip(plain.clients, turned.clients, strict=True):
        assert [part.labels.tolist() for part in before] == [part.labels.tolist() for part in after]
