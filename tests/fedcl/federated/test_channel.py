"""Compressed rounds agree with a naive loop, and both sides remember the same views."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, RecordDict

from distill.rng import derive
from distill.training import train
from fedcl.compression.half import Half
from fedcl.compression.quantised import Quantised
from fedcl.compression.sign import Sign
from fedcl.compression.top_k import TopK
from fedcl.federated.base import MODEL
from fedcl.federated.channel import Channel, ClientEnd, ServerEnd
from fedcl.federated.fedavg import FedAvg
from fedcl.federated.feddm import FedDM
from fedcl.federated.scaffold import Scaffold
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules
from fedcl.wire import BadUploadError, payload_bytes

ALL, SOME = Rules(1.0, 1.0), Rules(0.67, 1.0)


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def played(method, world, rounds, channel=None, rules=ALL):
    simulation = Simulation({"update": method}, world, rules, channel or Channel())
    reports = [simulation.play("update", number) for number in range(1, rounds + 1)]
    return flat(simulation.task.weights.to_torch_state_dict()), reports


def kept_largest(vector, share):
    k = math.ceil(len(vector) * share)
    threshold = vector.abs().sort(descending=True).values[k - 1]
    return torch.where(vector.abs() >= threshold, vector, 0.0)


def naive_top_k_rounds(world, recipe, up, down):
    """Four rounds of FedAvg with error feedback up and a view down, on flat vectors."""
    network = world.first_network()
    x = flat(network.state_dict())
    view, errors = x.clone(), [torch.zeros_like(x) for _ in world.clients]
    images = [len(data) for (data,) in world.clients]
    for number in range(1, 5):
        view = view + kept_largest(x - view, down) if (x - view).any() else view
        changes = []
        for k, (data,) in enumerate(world.clients):
            torch.nn.utils.vector_to_parameters(view.clone(), network.parameters())
            train(network, data, recipe, derive(world.seed, "client", k, "round", number))
            change = flat(network.state_dict()) - view + errors[k]
            errors[k] = change - kept_largest(change, up)
            changes.append(kept_largest(change, up) * images[k] / sum(images))
        x = x + sum(changes)
    return x


@pytest.mark.parametrize(("up", "down"), [(0.1, 0.1), (0.1, 1.0), (1.0, 0.1)])
def test_top_k_agrees_with_a_naive_loop(world, plain, up, down):
    # a share of 1 is no code at all
    ends = [None if share == 1.0 else TopK(share) for share in (up, down)]
    weights, _ = played(FedAvg(4, plain()), world, 4, Channel(*ends, error_feedback=True))
    naive = naive_top_k_rounds(world, plain(), up, down)
    torch.testing.assert_close(weights, naive, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("rules", [ALL, SOME])
@pytest.mark.parametrize("channel", [Channel(TopK(1.0), TopK(1.0)), Channel(None, TopK(1.0))])
def test_sending_all_numbers_is_sending_the_weights(world, plain, channel, rules):
    plainly, _ = played(FedAvg(3, plain()), world, 3, rules=rules)
    whole, _ = played(FedAvg(3, plain()), world, 3, channel, rules)
    torch.testing.assert_close(whole, plainly, atol=1e-6, rtol=1e-5)


def test_without_a_downlink_code_the_weights_go_down_as_they_are(world, plain):
    _, plainly = played(FedAvg(1, plain()), world, 1)
    _, half = played(FedAvg(1, plain()), world, 1, Channel(up=Half()))
    assert half[0].totals["bytes_down"] == plainly[0].totals["bytes_down"]
    assert half[0].totals["bytes_up"] < plainly[0].totals["bytes_up"]


def test_the_first_network_is_never_sent(world, plain):
    channel = Channel(Half(), Half())
    _, (first, second) = played(FedAvg(2, plain()), world, 2, channel)
    weights = 2 * sum(w.numel() for w in world.first_network().state_dict().values())
    assert first.totals["payload_bytes"] == 3 * weights  # up alone
    assert second.totals["payload_bytes"] == 2 * 3 * weights


def test_a_client_gets_the_view_where_the_changes_that_it_missed_are_as_long(world, plain):
    # two of three clients a round: who comes again gets float16, who comes back gets float32
    channel = Channel(None, Half())
    _, reports = played(FedAvg(6, plain()), world, 6, channel, SOME)
    d = sum(w.numel() for w in world.first_network().state_dict().values())
    took_part = [{row["client"] for row in report.clients} for report in reports]
    down = [
        {row["client"]: row["payload_bytes"] - 4 * d for row in report.clients}
        for report in reports
    ]
    assert down[0] == dict.fromkeys(took_part[0], 0)
    took_part[0] = {0, 1, 2}  # as good as: the first round changes nothing
    for before, now, row in zip(took_part, took_part[1:], down[1:], strict=False):
        assert row == {client: (2 if client in before else 4) * d for client in now}
    assert any(not now <= before for before, now in pairwise(took_part))


@pytest.mark.parametrize(
    # Codes of sign are a 32nd of a view and more, those of int8 a quarter: three are less than one.
    ("code", "most"),
    [(Sign(), 30), (Quantised(), 3), (Half(), 1)],
)
def test_a_client_gets_the_changes_that_it_missed_while_they_are_shorter(world, plain, code, most):
    rules, rounds = Rules(0.34, 1.0), 9  # one of three clients a round
    channel = Channel(None, code)
    _, reports = played(FedAvg(rounds, plain()), world, rounds, channel, rules)
    sizes = [w.numel() for w in world.first_network().state_dict().values()]
    whole = 4 * sum(sizes)
    record = code.encode(torch.randn(sum(sizes)), sizes, torch.Generator())
    one = payload_bytes(RecordDict({"code": record}))
    last, seen = dict.fromkeys(range(3), 1), set()
    for number, report in enumerate(reports, 1):
        (row,) = report.clients
        missed = number - last[row["client"]]  # the first round changes nothing
        last[row["client"]] = number
        assert row["payload_bytes"] - whole == (one * missed if missed <= most else whole)
        seen.add(missed)
    assert max(seen) >= 3


@pytest.mark.parametrize("code", [Sign(), Quantised(), TopK(0.2)])
@pytest.mark.parametrize(
    ("rules", "refused"),
    [(Rules(0.34, 1.0), []), (Rules(0.67, 0.5), [(n, 1) for n in range(3, 8)])],
)
def test_changes_that_come_late_make_the_view_that_the_server_has(
    world, plain, code, rules, refused, monkeypatch
):
    # What a client was sent before its answer was refused it has, though the server can't know.
    pairs, views = [], []
    check, received, begin = FedAvg.check, ClientEnd.received, ServerEnd.begin

    def refusing(self, upload, server):
        check(self, upload, server)
        if (server.round, upload.client) in refused:
            raise BadUploadError("not today")

    def noted(end, records):
        came = received(end, records)
        pairs.append((flat(came[MODEL].to_torch_state_dict()), views[-1]))
        return came

    def moved(end, *args):
        begin(end, *args)
        views.append(flat(end.views[MODEL]))

    monkeypatch.setattr(FedAvg, "check", refusing)
    monkeypatch.setattr(ClientEnd, "received", noted)
    monkeypatch.setattr(ServerEnd, "begin", moved)
    _, reports = played(FedAvg(9, plain()), world, 9, Channel(code, code), rules)
    for mine, view in pairs:
        torch.testing.assert_close(mine, view, atol=0, rtol=0)
    assert bool(refused) == (sum(report.totals["failures"] for report in reports) >= 2)


def test_error_feedback_brings_back_what_signs_lose(world, plain):
    wanted, _ = played(FedAvg(12, plain()), world, 12)
    gaps = [
        (played(FedAvg(12, plain()), world, 12, Channel(TopK(0.05), None, fed))[0] - wanted).norm()
        for fed in (True, False)
    ]
    assert gaps[0] < gaps[1]


@pytest.mark.parametrize("compressor", [Half(), Quantised(), Sign(), TopK(0.2)])
@pytest.mark.parametrize("method", [FedAvg, lambda r, local: Scaffold(r, local, 1.0)])
def test_a_resumed_run_ends_as_an_unbroken_one(world, plain, compressor, method):
    channel = Channel(compressor, compressor, error_feedback=True)
    unbroken, first, second = (
        Simulation({"update": method(4, plain())}, world, SOME, channel) for _ in range(3)
    )
    wanted = [unbroken.play("update", number).totals for number in range(1, 5)]
    first.play("update", 1)
    first.play("update", 2)
    second.restore(first.state())
    resumed = [second.play("update", number).totals for number in (3, 4)]
    for key in ("bytes_down", "bytes_up"):
        assert [row[key] for row in resumed] == [row[key] for row in wanted[2:]]
    ours, theirs = (flat(s.task.weights.to_torch_state_dict()) for s in (unbroken, second))
    assert ours.equal(theirs)


def test_a_bad_code_is_a_counted_failure(world, plain, monkeypatch):
    def longer(self, vector, sizes, rng):
        return Half().encode(torch.cat([vector, vector[:1]]), sizes, rng)

    monkeypatch.setattr(TopK, "encode", longer)
    simulation = Simulation(
        {"update": FedAvg(1, plain())}, world, Rules(1.0, 0.0), Channel(TopK(1))
    )
    with pytest.raises(
        RuntimeError, match=r"clients 0, 1, 2: .*arrays must be values, places, got"
    ):
        simulation.play("update", 1)


def test_weights_as_they_are_are_refused_where_codes_are_due(world, plain, monkeypatch):
    monkeypatch.setattr(ClientEnd, "sent", lambda self, records, received, rng: records)
    simulation = Simulation({"update": FedAvg(1, plain())}, world, Rules(1.0, 0.0), Channel(Half()))
    with pytest.raises(RuntimeError, match="records must be compressed, got arrays as it is"):
        simulation.play("update", 1)


def test_a_method_without_weights_refuses_a_compression(plain):
    with pytest.raises(ValueError, match="compression must be none or jpeg for a method"):
        Channel(Half()).check((), weights_up=True, small_sets=True)
    Channel().check((), weights_up=True, small_sets=True)
    Channel(Half()).check(FedAvg(1, plain()).vectors, weights_up=True, small_sets=False)


def test_weights_that_only_come_down_are_not_compressed_upwards():
    with pytest.raises(ValueError, match=r"compression.up must be null for a method whose clients"):
        Channel(Half()).check(FedDM.vectors, FedDM.weights_up, small_sets=True)
    for down in (Channel(None, Half()), Channel(Half(), Half())):
        down.check(FedDM.vectors, FedDM.weights_up, small_sets=True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.astype(np.int32), "must be float32 of shape .*, got int32"),
        (lambda w: w.astype(np.float16), "must be float32 of shape .*, got float16"),
        (lambda w: w.astype(">f4"), "must be float32 of shape .*, got >f4"),
        (lambda w: w.astype(str), "must be float32 of shape .*, got <U"),
    ],
)
def test_weights_are_checked_before_they_are_moved_upon_the_servers(
    world, plain, monkeypatch, change, reason
):
    honest = FedAvg.local_update

    def spoilt(self, task):
        sent = honest(self, task)
        arrays = {k: Array(change(a.numpy())) for k, a in sent["arrays"].items()}
        return {"arrays": ArrayRecord(arrays)} if task.client == 1 else sent

    monkeypatch.setattr(FedAvg, "local_update", spoilt)
    _, (report,) = played(FedAvg(1, plain()), world, 1, Channel(None, Half()), Rules(1.0, 0.5))
    assert re.search(reason, report.clients[1]["failure"])
