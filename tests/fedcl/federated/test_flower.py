"""Flower's own strategies aggregate what our clients upload."""

import copy

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord
from flwr.serverapp import strategy as strategies
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
)

from fedcl.federated import fedavg, fedavgm
from fedcl.federated.flower import STRATEGIES, FlowerStrategy
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules


@pytest.fixture(autouse=True)
def in_a_run(world, plain):
    """A grid sets the identity that Flower's messages need."""
    Simulation({"update": fedavg.FedAvg(1, plain())}, world, Rules(1.0, 1.0))


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def test_flowers_fedavg_is_ours(plain, world, trained):
    ours = flat(trained(fedavg.FedAvg(3, plain()), world, 3))
    flowers = flat(trained(FlowerStrategy(3, plain(), FedAvg()), world, 3))
    torch.testing.assert_close(flowers, ours, atol=1e-6, rtol=1e-5)


def test_flowers_momentum_outlasts_a_round_as_ours_does(plain, world, trained):
    # Flower's gap points from the new weights to the old ones, so both take the same steps.
    ours = flat(trained(fedavgm.FedAvgM(4, plain(), 0.9, 1.0), world, 4))
    flowers = flat(trained(FlowerStrategy(4, plain(), FedAvgM(server_momentum=0.9)), world, 4))
    without = flat(trained(fedavg.FedAvg(4, plain()), world, 4))
    torch.testing.assert_close(flowers, ours, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(flowers, without, atol=1e-3)


def test_a_strategy_that_another_one_wraps_keeps_its_moments(plain, world, trained):
    # no noise, and clipping to what nothing reaches: FedAdam as it is
    inner = FedAdam(eta=0.1)
    wrapped = DifferentialPrivacyServerSideFixedClipping(copy.deepcopy(inner), 0.0, 1e6, 3)
    ours = flat(trained(FlowerStrategy(3, plain(), wrapped), world, 3))
    bare = flat(trained(FlowerStrategy(3, plain(), inner), world, 3))
    torch.testing.assert_close(ours, bare, atol=1e-6, rtol=1e-5)


def test_a_clipping_norm_that_adapts_goes_on_from_where_it_was(plain, aggregated):
    # Both updates are clipped, half more than the target: by Flower's formula the norm is
    # multiplied by exp(-0.2 * 0.5) a round, the noise on the count aside.
    strategy = DifferentialPrivacyServerSideAdaptiveClipping(
        FedAvg(), 1e-9, 2, initial_clipping_norm=0.1, clipped_count_stddev=1e-9, clip_norm_lr=0.2
    )
    method, rows = FlowerStrategy(2, plain(), strategy), [[(1, 2.0), (1, 4.0)]] * 2
    norms = [aggregated(method, 0.0, rows[:n]).kept["clipping_norm"] for n in (1, 2)]
    assert norms == pytest.approx([0.1 * np.exp(-0.1), 0.1 * np.exp(-0.2)], rel=1e-4)


def test_noise_follows_the_seed_and_leaves_numpy_as_it_was(plain, aggregated):
    strategy = DifferentialPrivacyServerSideFixedClipping(FedAvg(), 1.0, 1.0, 2)
    method, row = FlowerStrategy(1, plain(), strategy), [[(1, 1.0), (1, 1.0)]]
    drawn = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        wanted = np.random.RandomState(seed).rand()
        drawn.append(aggregated(method, 0.0, row).weights["w"].numpy().item())
        assert np.random.rand() == wanted  # noqa: NPY002
    assert drawn[0] == drawn[1] != 1.0


@pytest.mark.parametrize(
    ("strategy", "asks"),
    [
        (FedProx(proximal_mu=1.0), "FedProx sends them proximal-mu"),
        (DifferentialPrivacyClientSideFixedClipping(FedAvg(), 1.0, 1.0, 3), "clipping_norm"),
    ],
)
def test_what_asks_more_of_clients_is_refused_before_they_work(plain, world, strategy, asks):
    simulation = Simulation(
        {"update": FlowerStrategy(1, plain(), strategy)}, world, Rules(1.0, 1.0)
    )
    with pytest.raises(ValueError, match=rf"must leave training to the clients.*{asks}"):
        simulation.play("update", 1)
    assert not simulation.grid.exchanges


def test_the_median_is_taken(plain, aggregated):
    server = aggregated(FlowerStrategy(1, plain(), FedMedian()), 0.0, [[(1, 1), (1, 2), (1, 90)]])
    assert server.weights["w"].numpy() == pytest.approx(2.0)


def test_moments_outlast_a_round_and_weights_stay_float32(plain, aggregated):
    # Flower's FedAdam from x = 0 to the mean 1, then again: by its formula, with its bias terms
    strategy = FedAdam(eta=0.1, beta_1=0.9, beta_2=0.99, tau=1e-3)
    rows = [[(1, 1.0), (1, 1.0)], [(1, 1.0), (1, 1.0)]]
    server = aggregated(FlowerStrategy(2, plain(), strategy), 0.0, rows)
    x = m = v = 0.0
    for _ in range(2):
        delta = 1.0 - x
        m, v = 0.9 * m + 0.1 * delta, 0.99 * v + 0.01 * delta**2
        # the fixture's rounds are all number 0
        x += 0.1 * np.sqrt(1 - 0.99) / (1 - 0.9) * m / (np.sqrt(v) + 1e-3)
    assert server.weights["w"].numpy() == pytest.approx(x, rel=1e-5)
    assert server.weights["w"].numpy().dtype == np.float32


def test_the_strategy_given_is_never_changed(plain, aggregated):
    strategy = FedAdam()
    before = copy.deepcopy(vars(strategy))
    aggregated(FlowerStrategy(1, plain(), strategy), 0.0, [[(1, 1.0), (1, 2.0)]])
    assert vars(strategy) == before


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_name_is_the_strategy_as_it_comes(plain, aggregated, name):
    row = [[(1, 1.0), (1, 2.0), (1, 3.0), (1, 4.0), (1, 5.0)]]
    made = (name, getattr(strategies, name)())
    ours, theirs = (aggregated(FlowerStrategy(1, plain(), s), 0.0, row) for s in made)
    assert ours.weights["w"].numpy() == theirs.weights["w"].numpy() != 0.0


def test_an_unknown_name_and_a_share_of_the_strategys_own_are_refused(plain):
    with pytest.raises(ValueError, match=r"federated\.strategy 'FedProxy'; known: Bulyan, FedAda"):
        FlowerStrategy(1, plain(), "FedProxy")
    with pytest.raises(
        ValueError, match=r"fraction_train must be 1, got 0.5: .* participation=0.5"
    ):
        FlowerStrategy(1, plain(), FedAvg(fraction_train=0.5))


class Remembering(FedAvg):
    """Keeps what it has seen, in several ways, and answers with how often it was asked."""

    def __init__(self):
        super().__init__()
        self.seen, self.last, self.scale = [], None, (1.0, {"a": np.ones(2)})

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        self.seen.append(float(len(self.seen)))
        before = 0.0 if self.last is None else self.last["w"].numpy()
        self.last = arrays
        self.scale = (self.scale[0] * 2, {"a": self.scale[1]["a"] + 1})
        total = np.array(before + len(self.seen), dtype=np.float32)
        return ArrayRecord({"w": Array(total)}), metrics


def test_lists_records_and_what_is_nested_outlast_a_round(plain, aggregated):
    # three rounds of clients that all send 5: what came a round before, and the rounds so far
    rows = [[(1, 5.0), (1, 5.0)]] * 3
    server = aggregated(FlowerStrategy(3, plain(), Remembering()), 0.0, rows)
    assert server.weights["w"].numpy() == 5 + 3
    assert server.kept["seen"] == [0.0, 1.0, 2.0]
    assert server.kept["scale"][0] == 8.0
    assert server.kept["scale"][1]["a"].tolist() == [4.0, 4.0]


def test_a_strategy_that_changes_what_cannot_be_kept_is_refused(plain, aggregated):
    class Drawing(FedAvg):
        def __init__(self):
            super().__init__()
            self.rng = np.random.default_rng(0)

        def aggregate_train(self, server_round, replies):
            self.draw()
            return super().aggregate_train(server_round, replies)

        def draw(self):
            """Leaves the generator as it is."""

    class Drawn(Drawing):
        def draw(self):
            self.rng.random()

    row = [[(1, 1.0), (1, 2.0)]]
    aggregated(FlowerStrategy(1, plain(), Drawing()), 0.0, row)
    with pytest.raises(ValueError, match=r"must change only numbers, .* a Generator in Drawn.rng$"):
        aggregated(FlowerStrategy(1, plain(), Drawn()), 0.0, row)


def test_a_resumed_run_ends_as_an_unbroken_one(plain, world):
    method = {"update": FlowerStrategy(4, plain(), FedAdam())}
    unbroken, first, second = (Simulation(method, world, Rules(1.0, 1.0)) for _ in range(3))
    for number in range(1, 5):
        unbroken.play("update", number)
    for number in (1, 2):
        first.play("update", number)
    second.restore(first.state())
    for number in (3, 4):
        second.play("update", number)
    ours, theirs = (flat(s.task.weights.to_torch_state_dict()) for s in (unbroken, second))
    assert ours.equal(theirs)


@pytest.mark.parametrize("sent", ["push_messages", "pull_messages", "send_and_receive"])
def test_a_strategy_that_sends_by_itself_is_refused(plain, aggregated, sent):
    class Chatty(FedAvg):
        def configure_train(self, server_round, arrays, config, grid):
            return vars(type(grid))[sent](grid, [])

    with pytest.raises(ValueError, match=r"must only choose nodes .* but sends messages itself"):
        aggregated(FlowerStrategy(1, plain(), Chatty()), 0.0, [[(1, 1.0), (1, 2.0)]])


def test_too_few_clients_are_refused_and_not_waited_for(plain, aggregated, monkeypatch):
    monkeypatch.setattr("flwr.serverapp.strategy.strategy_utils.sleep", lambda seconds: None)
    with pytest.raises(ValueError, match="must do with 1 clients, but waits for more"):
        aggregated(FlowerStrategy(1, plain(), FedAvg()), 0.0, [[(1, 1.0)]])
