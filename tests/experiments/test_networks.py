"""A network that can't take the images is told before anything runs, wherever it is named."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import pytest
import torch
from torch import nn

from distill.images import LabelledImages
from distill.networks import MLP, Architecture, ConvNet, ImageShape, Network
from distill.resnet import ResNet18
from experiments.build import plan
from experiments.cli import main
from experiments.listing import known
from experiments.networks import architectures, check_networks

METHODS = {
    "federated": "federated=one_shot method=dm",
    "continual": "continual=replay buffer.images=20 method=dm",
    "federated-continual": "federated_continual=local_replay buffer.images=20 method=dm",
}
TOO_DEEP = (
    "fedcl: convnet depth must be <= 3 for images of 8x8, got 4; lower network.depth, or "
    "distiller.depth, or take the MLP\n"
)


def digits() -> LabelledImages:
    return LabelledImages(torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64), 10)


def test_architectures_are_found_at_any_depth():
    found = architectures({"a": [MLP(1, 1), {"b": ConvNet(2, 1)}], "c": "words", "d": ResNet18(3)})
    assert list(found) == [MLP(1, 1), ConvNet(2, 1), ResNet18(3)]


def test_the_networks_of_a_preset_are_found():
    words = ["method=mtt", "network=lenet", "distiller=convnet", "distiller.width=5"]
    scenario = plan("distillation", words).scenario
    assert ConvNet(5, 3) in list(architectures(scenario))  # the experts, four fields down
    assert scenario.network in list(architectures(scenario))


@pytest.mark.parametrize("verb", METHODS)
def test_every_field_of_a_scenario_is_looked_into(verb):
    kind = verb.replace("-", "_")
    scenario = plan(kind, [*METHODS[verb].split(), "network=lenet", "distiller=mlp"]).scenario
    assert {type(found).__name__ for found in architectures(scenario)} == {"LeNet", "MLP"}


@pytest.mark.parametrize("name", known("network"))
def test_every_network_takes_the_digits(name):
    check_networks(plan("distillation", ["method=random", f"network={name}"]).scenario, digits())


@final
@dataclass(frozen=True)
class Normalised(Architecture):
    """A network of one's own, with a module that normalises."""

    norm: Callable[[int], nn.Module]

    def build(self, image_shape: ImageShape, num_classes: int) -> Network:
        channels, *sides = image_shape
        embedding = nn.Sequential(self.norm(channels), nn.Flatten())
        return Network(embedding, channels * math.prod(sides), num_classes)


def test_a_network_that_looks_at_the_whole_batch_is_refused():
    check_networks([Normalised(nn.InstanceNorm2d)], digits())
    with pytest.raises(ValueError, match=r"by itself, got BatchNorm2d at embedding.0, which looks"):
        check_networks([Normalised(nn.BatchNorm2d)], digits())


def test_asking_costs_no_random_number():
    before = torch.get_rng_state()
    check_networks([ConvNet(64, 3), MLP(4, 1)], digits())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("verb", METHODS)
def test_a_network_without_what_is_matched_is_a_wrong_command(verb, tmp_path, capsys):
    words = f"{verb} {METHODS[verb]} method=dsa objective.statistic.layers=convolutions".split()
    assert main([*words, "network=mlp", f"output={tmp_path}"]) == 2
    assert "layers must be all for a network without convolutions" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", METHODS)
@pytest.mark.parametrize("role", ["network=mlp distiller=convnet distiller", "network"])
def test_a_network_too_deep_is_a_wrong_command(verb, role, tmp_path, capsys):
    words = f"{verb} {METHODS[verb]} {role}.depth=4 threads=1 output={tmp_path}"
    assert main(words.split()) == 2
    assert capsys.readouterr().err == TOO_DEEP
    assert not list(tmp_path.iterdir())


UNGIVEN = {
    "network_source=around_given": "network_source.weights must be a safetensors file",
    "network_source=resampled": "network_source=resampled must have a network to mix",
    "objective=given_step": "objective=given_step must have two networks, .* got 0; take",
}


@pytest.mark.parametrize("verb", ["federated", "federated-continual"])
@pytest.mark.parametrize("words", UNGIVEN)
def test_a_method_whose_networks_nobody_gives_is_a_wrong_command(verb, words, tmp_path, capsys):
    command = f"{verb} {METHODS[verb]} {words} network=mlp distiller=convnet output={tmp_path}"
    assert main(command.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"fedcl: {UNGIVEN[words]}", line)
    assert not list(tmp_path.iterdir())


GIVEN_TRAJECTORY = "objective=given_trajectory objective.terminal.span=1"
GIVEN = {
    "federated": ["federated=feddm", "federated=fedaf", "federated=fedlgd", "federated=dynafed"],
    "continual": [
        f"continual={name} buffer.images=20 method=dm network_source={source}"
        for name, source in (("replay", "around_given"), ("gdumb", "resampled"))
    ]
    + [f"continual=scr buffer.images=20 method=mtt {GIVEN_TRAJECTORY}"],
}
ALL_GIVEN = [(kind, words) for kind in GIVEN for words in GIVEN[kind]]


@pytest.mark.parametrize(("kind", "words"), [*ALL_GIVEN, ("federated", "federated=dosfl")])
def test_a_method_that_is_given_networks_is_not_refused(kind, words):
    check_networks(plan(kind, words.split()).scenario, digits())


@pytest.mark.parametrize(("kind", "words"), ALL_GIVEN)
def test_networks_that_are_given_to_another_architecture_are_a_wrong_command(
    kind, words, tmp_path, capsys
):
    other = f"{kind} {words} network=mlp distiller=convnet output={tmp_path}"
    assert main(other.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"fedcl: weights given to \S+ must be those of .*architecture, got ", line)
    assert line.endswith("give distiller the network's choice")
    assert not list(tmp_path.iterdir())


def test_a_memory_that_comes_before_the_network_is_given_no_trajectory():
    words = f"continual=er_ace buffer.images=20 method=mtt {GIVEN_TRAJECTORY}"
    scenario = plan("continual", words.split()).scenario
    with pytest.raises(ValueError, match=r"^objective.terminal.span must be < 1, the points"):
        check_networks(scenario, digits())


def test_one_network_is_too_few_for_a_step():
    words = ["federated=feddm", "method=dm", "objective=given_step", "ipc=1"]
    with pytest.raises(ValueError, match=r"^objective=given_step must have two .* got 1;"):
        check_networks(plan("federated", words).scenario, digits())
