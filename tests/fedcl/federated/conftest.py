from collections.abc import Sequence

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict

from distill.augment import Augmentation
from distill.training import Recipe
from fedcl.federated.base import FederatedMethod, LocalTask, ServerTask, Upload, World
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules
from fedcl.wire import pack_weights


@pytest.fixture
def plain():
    """A recipe of plain descent without augmentation."""

    def recipe(epochs: int = 1, batch: int = 4, momentum: float = 0.0) -> Recipe:
        return Recipe(epochs, batch, 0.1, momentum, 0.0, None, Augmentation([], mirror=False))

    return recipe


@pytest.fixture
def one_number():
    """A record of one array of one number, by which server halves are worked out by hand."""

    def record(value: float) -> ArrayRecord:
        return ArrayRecord({"w": Array(np.array([value], np.float32))})

    return record


@pytest.fixture
def aggregated(world, one_number):
    """The server's task after rounds in which each client uploaded one number."""

    def after(
        method: FederatedMethod, start: float, rounds: Sequence[Sequence[tuple[int, float]]]
    ) -> ServerTask:
        server = ServerTask(world, 0, 0, one_number(start), None)
        for row in rounds:
            uploads = [
                Upload(client, examples, {"arrays": one_number(value)})
                for client, (examples, value) in enumerate(row)
            ]
            server = method.aggregate(server, iter(uploads))
        return server

    return after


@pytest.fixture
def local_weights():
    """What client 0 uploads in its first round from the first network."""

    def uploaded(method: FederatedMethod, world: World, **received: ArrayRecord):
        sent = {"arrays": pack_weights(world.first_network()), **received}
        records = method.local_update(LocalTask(world, 0, 1, 0, sent, RecordDict()))
        return records["arrays"].to_torch_state_dict()

    return uploaded


@pytest.fixture
def trained():
    """The global weights after so many rounds with all clients."""

    def after(method: FederatedMethod, world: World, rounds: int):
        simulation = Simulation({"update": method}, world, Rules(1.0, 1.0))
        for number in range(1, rounds + 1):
            simulation.play("update", number)
        return simulation.task.weights.to_torch_state_dict()

    return after
