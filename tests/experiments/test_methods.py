"""Every preset runs, and any parameterisation combines with any objective that it can serve."""

from dataclasses import replace

import pytest
import torch
from toys import small_distilling

from distill.condenser import Task, condense, even_counts
from distill.labels import HardLabels
from distill.networks import fresh
from distill.pullback import weights_of
from distill.rng import derive
from distill.synthetic import SyntheticSet
from experiments.build import plan
from experiments.errors import CommandError
from experiments.listing import config_folder, known
from experiments.scenarios.distillation import Distillation

OBJECTIVES = known("objective")
PARAMETERISATIONS = {
    "pixels": [],
    "tiles": [],
    "low_rank": ["parameterisation.source.rank=2"],
    "linear_bases": ["parameterisation.source.bases=4", "parameterisation.source.most=3"],
    "hallucinators": ["parameterisation.decoders.0.count=2"],
}


def small(words: list[str]) -> Distillation:
    return plan("distillation", small_distilling(words)).scenario


def distilled(scenario: Distillation) -> SyntheticSet:
    data = scenario.dataset.load(0)
    real = data.normalised(data.train)
    # what a federated round gives: networks that the set is to be good for
    networks = [fresh(scenario.network, real.image_shape, 10, derive(k)) for k in range(4)]
    given = [weights_of(network) for network in networks]
    return condense(scenario.method, Task(real, even_counts(real, 3), data.normalisation, 0, given))


@pytest.mark.parametrize("method", known("method"))
def test_every_preset_makes_a_set_of_all_classes(method):
    made = distilled(small([f"method={method}"]))
    assert (made.data.counts > 0).all()
    assert made.data.images.isfinite().all()
    labels = 0 if made.data.targets is None else made.data.targets.numel() * 4
    assert made.storage_bytes("float32") <= 30 * (64 * 4 + 1) + labels + 40


@pytest.mark.parametrize("parameterisation", PARAMETERISATIONS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_pulls_on_every_parameterisation(objective, parameterisation):
    words = [
        "method=dm",
        f"objective={objective}",
        f"parameterisation={parameterisation}",
        *PARAMETERISATIONS[parameterisation],
        "start=real",
        "optimiser=adam",
    ]
    moving = small(words)
    optimiser = replace(moving.method.optimiser, learning_rate=1e-30)
    after = distilled(moving)
    before = distilled(replace(moving, method=replace(moving.method, optimiser=optimiser)))
    assert after.data.images.isfinite().all()
    assert (after.data.images - before.data.images).flatten(1).norm(dim=1).min() > 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("method=dm labels=learned", "labels must be hard where a statistic of images is matched"),
        ("method=dsa labels=soft", "labels must be hard where a statistic"),
        ("method=mtt labels=learned", "labels must be hard or soft where training is unrolled"),
        ("method=dm method.rate=0.1", "method.rate must be null where no training is unrolled"),
        ("method=kip method.rate=0.1", "method.rate must be null where no training is unrolled"),
    ],
)
def test_pairs_that_cannot_work_say_why(words, reason):
    with pytest.raises(CommandError, match=reason):
        plan("distillation", words.split())


def test_a_layerwise_objective_refuses_a_network_without_maps():
    with pytest.raises(ValueError, match="chain of two or more convolutional blocks"):
        distilled(small(["method=datadam", "distiller=mlp"]))


def test_an_adversary_refuses_a_parameterisation_with_nothing_to_compare():
    with pytest.raises(ValueError, match="must make two or more images of a row"):
        distilled(small(["method=haba", "parameterisation=tiles"]))


@pytest.mark.parametrize("method", known("method"))
def test_every_preset_names_its_paper(method):
    text = (
        (config_folder() / "method" / f"{method}.yaml")
        .read_text()
        .removeprefix("# @package _global_\n")
    )
    assert text.startswith(f"# {method}: ")


@pytest.mark.parametrize(
    "method", ["dsa", "cafe", "idc", "ncfm", "frepo", "mtt", "datm", "haba", "rtp", "dd"]
)
def test_a_resumed_run_ends_with_the_same_bytes(method):
    scenario = plan(
        "distillation", [*small_distilling([f"method={method}"]), "method.iterations=4"]
    ).scenario
    data = scenario.dataset.load(0)
    real = data.normalised(data.train)
    task = Task(real, even_counts(real, 3), data.normalisation, 0)
    steps = list(scenario.method.steps(task))
    state = next(step for step in scenario.method.steps(task) if step.done == 2).state()
    *_, last = scenario.method.steps(task, state)
    assert last.result().data.images.equal(steps[-1].result().data.images)
    assert isinstance(scenario.method.labels, HardLabels) or last.result().data.targets.equal(
        steps[-1].result().data.targets
    )
    assert torch.tensor(last.result().rates).equal(torch.tensor(steps[-1].result().rates))
