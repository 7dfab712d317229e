"""Every evaluation preset trains networks, as its paper says where that can be worked out."""

import pytest
import torch

from distill.condenser import Task, condense, even_counts
from distill.coresets import Random
from experiments.build import plan
from experiments.listing import known

SMALL = ["method=random", "dataset.train_images=60", "network=mlp", "network.width=4"]


def preset(name: str, *words: str):
    return plan("distillation", [*SMALL, f"evaluation={name}", *words])


def rates(name: str) -> list[float]:
    """The step size of each epoch."""
    recipe = preset(name).scenario.evaluation.recipe
    optimiser = recipe.build_optimiser(torch.nn.Linear(2, 2))
    found = []
    for epoch in range(recipe.epochs):
        recipe.pace(optimiser, epoch)
        found.append(optimiser.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize("name", known("evaluation"))
def test_every_preset_scores_a_set(name):
    updates = ["evaluation.updates=4"] if name == "frepo" else ["evaluation.recipe.epochs=4"]
    scenario = preset(name, "evaluation.networks=2", *updates).scenario
    data = scenario.dataset.load(0)
    real = data.normalised(data.train)
    small = condense(Random(), Task(real, even_counts(real, 1), data.normalisation, 0)).data
    test = data.normalised(data.test).rows(torch.arange(20))
    found = list(scenario.evaluation.accuracies(small, test, scenario.network, 0))
    assert len(found) == 2
    assert all(0 <= accuracy <= 1 for accuracy in found)


def test_idc_lowers_the_step_to_a_fifth_at_two_thirds_and_five_sixths():
    # of 1,000 epochs, numbered from 0: .01 up to 665, .002 from 667 on, .0004 from 833 on
    found = rates("idc")
    assert found[0] == found[665] == 0.01
    assert found[667] == found[832] == pytest.approx(0.002)
    assert found[833] == found[999] == pytest.approx(0.0004)


def test_glad_warms_up_for_half_of_its_epochs():
    # the middle of epoch 0 is 1/2000 of the way, of epoch 249, about a quarter; at 3/4 the
    # cosine is half-way down
    found = rates("glad")
    assert found[0] == pytest.approx(0.001 * 0.001)
    assert found[249] == pytest.approx(0.001 * 0.499)
    assert max(found) == pytest.approx(0.001, rel=1e-2)
    assert found[749] == pytest.approx(0.001 * 0.5, rel=1e-2)
    assert found[999] < 1e-8


def test_rded_mixes_every_batch_and_falls_to_zero():
    found = rates("rded")
    assert preset("rded").scenario.evaluation.recipe.cutmix == 1.0
    assert found[0] == pytest.approx(0.001, rel=1e-4)
    assert found == sorted(found, reverse=True)
    assert found[299] < 1e-8


def test_cafe_is_dc_for_twice_the_epochs():
    dc, cafe = (preset(name).config["evaluation"]["recipe"] for name in ("dc", "cafe"))
    assert cafe == dc | {"epochs": 601, "decay_after": 301}
