"""The benchmarks time in turns, and say so where the code or the data they need isn't there."""

import operator
import re
import sys
from functools import partial

import pytest
import torch

from benchmarks import (
    dc_step,
    dm_accuracy,
    dm_step,
    evaluation,
    grid,
    mtt_step,
    records,
    replay_step,
    together,
    unrolling,
)
from benchmarks.alternate import Timings, alternate
from benchmarks.memory import Peak, peak
from benchmarks.released import Implementation, plainly_strided, relative_difference
from benchmarks.setting import setting
from benchmarks.trajectory import PLAIN, WORDS, trajectory
from experiments.build import plan
from experiments.compare import Comparison
from experiments.errors import CommandError
from experiments.run import folder_of


def test_ratio_is_that_of_the_medians_and_pairs_show_its_noise():
    # medians 4 and 2; pairs 3 / 2, 8 / 1 and 4 / 4
    timings = Timings([3.0, 8.0, 4.0], [2.0, 1.0, 4.0])
    assert timings.ratio == 2.0
    assert timings.pairs == [1.0, 1.5, 8.0]
    assert "4.000 s (3.000 to 8.000)" in timings.row("wall")
    assert "2.00 times (pairs 1.00 to 8.00)" in timings.row("wall")


def test_both_sides_are_called_in_turns_after_an_untimed_call_each():
    calls = list[str]()
    comparison = alternate(lambda: calls.append("theirs"), lambda: calls.append("ours"), 2)
    assert calls == ["theirs", "ours"] * 3
    assert len(comparison.wall.ours) == len(comparison.processor.theirs) == 2
    assert comparison.table("released").count("\n") == 2


def test_no_round_is_refused():
    with pytest.raises(ValueError, match="rounds must be >= 1, got 0"):
        alternate(lambda: None, lambda: None, 0)


def test_peak_is_told_apart_from_what_was_there_before():
    assert (
        Peak(400_000_000, 650_000_000)
        .row("ours")
        .endswith("peak 650 MB, 250 MB above what was there before the call")
    )


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere loading is counted too")
def test_a_peak_is_that_of_the_call_and_of_nothing_before():
    # To load 100 MB another process holds them twice for a while; the call makes 200 MB of them.
    found = peak(partial, operator.mul, b"1" * 10**8, 2)
    assert 190e6 < found.after - found.before < 250e6


@pytest.mark.parametrize(
    ("script", "project"),
    [
        (dm_step, "VICO-UoE/DatasetCondensation"),
        (dm_accuracy, "VICO-UoE/DatasetCondensation"),
        (dc_step, "VICO-UoE/DatasetCondensation"),
        (mtt_step, "GeorgeCazenavette/mtt-distillation"),
    ],
)
def test_a_missing_folder_is_one_line_and_status_2(script, project, tmp_path, capsys):
    assert script.main([str(tmp_path / "nowhere")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith(
        f"FOLDER must hold the released code of https://github.com/{project}"
    )
    assert "nowhere without utils.py, networks.py" in said.err


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "here.py").write_text("")
    with pytest.raises(CommandError, match=r"without gone\.py$"):
        Implementation("owner/name", ("here", "gone")).load(tmp_path)


@pytest.mark.parametrize("script", [evaluation, together])
def test_missing_data_are_one_line_and_status_2(script, capsys):
    assert script.main(["--dataset", "npz"]) == 2
    assert capsys.readouterr().err == "dataset.path must be given, as dataset.path=VALUE\n"


def test_grey_images_in_channels_last_get_the_strides_of_a_new_tensor(rng):
    images = torch.rand(5, 4, 4, 1, generator=rng).permute(0, 3, 1, 2)
    assert images.stride(1) == 1
    assert plainly_strided(images).stride() == torch.empty(5, 1, 4, 4).stride()
    assert plainly_strided(images).equal(images)


def test_difference_is_a_share_of_the_largest_entry():
    # 1 and 0.5 apart, of a largest entry of 4
    assert relative_difference(torch.tensor([-4.0, 1.0]), torch.tensor([-3.0, 0.5])) == 0.25


def test_ours_takes_steps_until_the_time_given_is_spent():
    take = setting(["dataset=digits", "method=dm", "ipc=1", "network.width=4"]).steps()
    take()  # the first step is slower
    given = 3 * sum(dm_accuracy.within(1e-9, take)[0])  # of one step
    spent, images = dm_accuracy.within(given, take)
    assert sum(spent[:-1]) < given <= sum(spent)
    assert len(images) == 10


def test_the_plain_evaluation_is_the_same_training_with_torchs_own_layers():
    job = evaluation.evaluated("digits", 4)
    layers = {type(layer) for layer in job.trained_plainly().modules()}
    assert all(layer.__module__.startswith("torch.nn.") for layer in layers)
    # the two average pools round differently, which may turn a few of 360 images
    assert job.plainly()() == pytest.approx(job.by_ours()(), abs=3 / 360)


def test_the_plain_unrolling_is_the_same_gradient():
    words = ["dataset=digits", *WORDS, PLAIN, "network.width=4", "objective.inner_steps=3"]
    ours = setting(words)
    by_images, by_rate = unrolling.apart(ours, trajectory(ours))
    assert by_images < 1e-9  # float64
    assert by_rate < 1e-6  # the rate is a float32 of ours, whose gradient is one, too


def test_clients_make_together_what_they_make_alone():
    words = [
        *together.WORDS,
        "dataset=digits",
        "network=mlp",
        "clients=30",
        "ipc=2",
        "method.iterations=5",
    ]
    method, tasks = together.asked(words)
    assert sum(len(task.real) for task in tasks) == 1437  # 1,797 digits less the test part
    assert together.difference(method, tasks) < 1e-5


def test_every_message_comes_back():
    assert grid.echoes(3)() == 3


@pytest.mark.slow
def test_a_thousand_clients_take_little_memory_and_minutes(capsys):
    assert grid.main(["--iterations", "20", "--messages", "50", "--rounds", "1"]) == 0
    said = capsys.readouterr().out
    assert float(re.search(r"([\d.]+) ms a message", said).group(1)) < 20  # 2 on quiet cores
    assert int(re.search(r"peak (\d+) MB", said).group(1)) < 3000
    assert int(re.search(r"(\d+) s of a processor", said).group(1)) < 600


def test_a_step_with_a_memory_passes_as_many_images_as_one_without(capsys):
    words = ["dataset=digits", "network=mlp", "continual=replay", "method=random"]
    learner = replay_step.prepared([*words, "buffer.images=20", "training.epochs=1"])
    counts = [replay_step.experience(learner, memory)() for memory in (False, True)]
    came = len(learner.setting.experiences[1].train)
    assert counts == [came, came // 2 * 2]
    assert replay_step.main(["--dataset", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_records_of_completed_arms_are_packed_beside_those_of_other_machines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = Comparison.of(["federated_partial"]).arms[:2]
    for arm, status in ((first, "completed"), (second, "failed")):
        folder = folder_of(plan(arm.kind, arm.words)).path
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(f'{{"status": "{status}"}}')
    archive = tmp_path / "records.tar.xz"
    records.pack({"runs/elsewhere/record.json": b"{}"}, archive)
    together = records.held(archive) | records.finished("federated_partial")
    records.pack(together, archive)
    assert records.held(archive) == together
    path = str(folder_of(plan(first.kind, first.words)).path / "record.json")
    assert list(together.values()) == [b"{}", b'{"status": "completed"}']
    assert list(together) == ["runs/elsewhere/record.json", path]
    once = archive.read_bytes()
    records.pack(dict(reversed(together.items())), archive)
    assert archive.read_bytes() == once
