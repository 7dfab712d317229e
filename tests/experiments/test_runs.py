"""Equal seeds give equal records, and a killed run ends with the numbers of an unbroken one."""

import errno
import json
import logging
import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from distill.synthetic import SyntheticSet
from experiments.build import plan
from experiments.cli import main
from experiments.errors import CommandError, RunFailedError
from experiments.peak import peak_bytes
from experiments.record import RunFolder, machine
from experiments.reporting.images import Stack
from experiments.run import _device, folder_of, run

COMMANDS = {
    "distill": (
        "distillation",
        (
            "method=dm method.iterations=4 ipc=2 network=mlp evaluation.networks=2 "
            "evaluation.recipe.epochs=3"
        ),
    ),
    "federated": ("federated", "federated=fedavg rounds=3 clients=3 network=mlp"),
    "continual": (
        "continual",
        (
            "continual=replay method=kmeans buffer.images=20 network=mlp training.epochs=1 "
            "stream.experiences=3"
        ),
    ),
    "federated-continual": (
        "federated_continual",
        (
            "federated_continual=local_replay method=random buffer.images=20 rounds=1 clients=2 "
            "network=mlp stream.experiences=2"
        ),
    ),
    "shared": (
        "federated_continual",
        (
            "federated_continual=shared_buffer method=random buffer.images=20 rounds=1 clients=2 "
            "network=mlp stream.experiences=2"
        ),
    ),
}


def record_of(folder: Path) -> dict:
    return json.loads((folder / "record.json").read_text())


def numbers(value):
    """Returns a record's metrics and history without what measures time."""
    if isinstance(value, dict):
        return {k: numbers(v) for k, v in value.items() if "seconds" not in k}
    return [numbers(inner) for inner in value] if isinstance(value, list) else value


def measured(folder: Path):
    record = record_of(folder)
    assert record["status"] == "completed"
    memories = {file.name: file.read_bytes().hex() for file in folder.glob("memories/*")}
    kept = {"metrics": record["metrics"], "history": record["history"], "memories": memories}
    return numbers(kept)


def words_of(case: str, output: Path) -> tuple[str, list[str]]:
    kind, words = COMMANDS[case]
    return kind, [*words.split(), "threads=1", f"output={output}"]


@pytest.mark.parametrize("case", COMMANDS)
def test_the_same_seed_gives_the_same_record(case, tmp_path):
    first, second = (run(*words_of(case, tmp_path / name), command="test") for name in ("a", "b"))
    assert measured(first) == measured(second)
    assert not (first / "checkpoint").exists()


@pytest.mark.parametrize("case", COMMANDS)
def test_a_killed_run_resumes_to_the_same_numbers(case, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.scenarios.distillation.CHECKPOINT_SECONDS", 0.0)
    unbroken = run(*words_of(case, tmp_path / "whole"), command="test")
    kind, words = words_of(case, tmp_path / "killed")
    planned = plan(kind, words)
    folder = RunFolder(tmp_path / "killed" / kind / planned.name / planned.config_hash)
    folder.begin(planned.config)
    steps = planned.scenario.prepare("cpu").steps(folder)
    next(steps)
    next(steps)  # what was done after the checkpoint is lost
    steps.close()
    assert not folder.completed()
    assert folder.load_checkpoint() is not None
    assert measured(run(kind, words, command="test")) == measured(unbroken)


def test_a_resumed_runs_seconds_are_those_of_all_its_processes(tmp_path):
    kind, words = words_of("federated", tmp_path)
    planned = plan(kind, words)
    folder = RunFolder(tmp_path / kind / planned.name / planned.config_hash)
    folder.begin(planned.config)
    an_hour_ago = time.perf_counter() - 3600
    steps = planned.scenario.prepare("cpu").steps(replace(folder, began=an_hour_ago))
    next(steps)
    steps.close()
    assert 3600 < record_of(run(kind, words, command="test"))["seconds"] < 3700


def test_a_continual_run_leaves_its_memory_after_each_experience(tmp_path):
    folder = run(*words_of("continual", tmp_path), command="test")
    files = [folder / "memories" / f"{experience}.safetensors" for experience in range(3)]
    # Two images of each class, which come by four, three and three.
    assert [len(Stack.read(file).labels) for file in files] == [8, 14, 20]


def test_a_completed_run_is_not_repeated(tmp_path):
    kind, words = words_of("federated", tmp_path)
    first = record_of(run(kind, words, command="test"))["started"]
    assert record_of(run(kind, words, command="test"))["started"] == first


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is that of the process")
def test_the_peak_of_a_run_is_not_what_was_held_before_it(tmp_path):
    large = bytearray(b"1" * 300_000_000)
    before = peak_bytes()
    del large
    kind, words = words_of("distill", tmp_path)
    assert record_of(run(kind, words, command="test"))["peak_rss_bytes"] < before - 200_000_000


def test_a_failing_run_says_so_in_its_record_and_status(tmp_path, capsys):
    words = "distill method=dm optimiser.learning_rate=1e38 method.iterations=9 ipc=1 network=mlp"
    words += f" parameterisation.source.clip=false threads=1 output={tmp_path}"
    assert main(words.split()) == 1
    assert "lower optimiser.learning_rate" in capsys.readouterr().err
    (file,) = tmp_path.rglob("record.json")
    record = json.loads(file.read_text())
    assert record["status"] == "failed"
    assert "the loss must stay finite" in record["error"]


@pytest.mark.parametrize("method", ["one_shot method=kmeans ipc=2", "feddm method=kmeans ipc=2"])
def test_a_server_whose_training_diverges_fails_in_one_line(method, tmp_path, capsys):
    words = f"federated federated={method} clients=3 network=mlp evaluation.recipe.epochs=3"
    words += f" evaluation.recipe.learning_rate=1e6 threads=1 output={tmp_path}"
    assert main(words.split()) == 1
    reason = "the global network's loss must stay finite, got nan after round"
    assert reason in capsys.readouterr().err
    (file,) = tmp_path.rglob("record.json")
    assert reason in json.loads(file.read_text())["error"]


def test_a_number_that_is_none_leaves_a_record_that_says_failed(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.scenarios.federated.spread", lambda *_: {"spread": math.nan})
    with pytest.raises(RuntimeError, match="nan"):
        run(*words_of("federated", tmp_path), command="test")
    (file,) = tmp_path.rglob("record.json")
    assert json.loads(file.read_text())["status"] == "failed"


def test_a_checkpoint_that_cannot_be_read_is_a_failed_run(tmp_path):
    kind, words = words_of("federated", tmp_path)
    planned = plan(kind, words)
    folder = RunFolder(tmp_path / kind / planned.name / planned.config_hash)
    folder.begin(planned.config)
    (folder.path / "checkpoint").mkdir()
    (folder.path / "checkpoint" / "state.pt").write_bytes(b"nothing")
    with pytest.raises(RunFailedError, match=r"state.pt must be a checkpoint.* remove it, and"):
        run(kind, words, command="test")
    assert record_of(folder.path)["status"] == "failed"


def test_what_another_process_completed_meanwhile_is_not_repeated(tmp_path, monkeypatch):
    kind, words = words_of("federated", tmp_path)
    folder = folder_of(plan(kind, words))

    def completed_by_another(*_):
        folder.begin({})
        folder.write_record({"status": "completed"})

    monkeypatch.setattr("experiments.run.RunFolder._lock", completed_by_another)
    assert run(kind, words, command="test") == folder.path
    assert record_of(folder.path) == {"schema": 1, "status": "completed"}


def test_a_combination_that_does_not_fit_its_data_stops_no_other(tmp_path, capsys):
    words = f"federated=fedavg rounds=1 network=mlp threads=1 output={tmp_path} clients=9999,2"
    assert main(["federated", "-m", *words.split()]) == 1
    assert "1 of 2: " in (told := capsys.readouterr().err)
    assert "clients must be <= 1437" in told
    assert len(list(tmp_path.rglob("record.json"))) == 1


def test_a_full_disk_is_one_line_and_leaves_no_part(tmp_path, capsys, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("experiments.record.os.fsync", full)
    assert main(["distill", "method=random", "ipc=1", f"output={tmp_path}"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "fedcl: [Errno 28] No space left on device"
    assert not list(tmp_path.rglob("*.part"))


def test_two_processes_never_make_the_same_run(tmp_path):
    kind, words = words_of("federated", tmp_path)
    folder = folder_of(plan(kind, words))
    with folder.owned(), pytest.raises(CommandError, match="is being run by another process: wait"):
        run(kind, words, command="test")
    assert not folder.completed()
    run(kind, words, command="test")
    assert folder.completed()


def test_a_run_that_other_code_has_completed_is_told_to_be(tmp_path, monkeypatch, caplog):
    def told(made, now):
        caplog.clear()
        monkeypatch.setattr("experiments.record.git_commit", lambda: now)
        RunFolder(folder).write_record({"status": "completed", "git": made})
        assert run(kind, words, command="test") == folder
        return caplog.text.partition("completed before")[2].strip()

    kind, words = words_of("federated", tmp_path)
    folder = folder_of(plan(kind, words)).path
    folder.mkdir(parents=True)
    caplog.set_level(logging.INFO)
    assert [told("a", "a"), told(None, None)] == ["", ""]
    again = "; remove it to run it by that of today"
    assert told("a", "b") == f"by the code of a{again}"
    assert told("a+", "a+") == f"by the code of a+{again}"


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    def unable(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("experiments.record.fcntl.flock", unable)
    with RunFolder(tmp_path / "run").owned(), RunFolder(tmp_path / "run").owned():
        assert (tmp_path / "run").is_dir()


@pytest.mark.parametrize("text", ["{", "3", "{}", '{"status": "failed"}'])
def test_a_damaged_record_is_not_a_completed_run(text, tmp_path):
    (tmp_path / "record.json").write_text(text)
    assert not RunFolder(tmp_path).completed()


@pytest.mark.parametrize("output", ["null", "3", "FILE", "FILE/below"])
def test_an_output_that_is_no_folder_is_refused(output, tmp_path):
    (tmp_path / "FILE").touch()
    kind, words = words_of("federated", tmp_path)
    words = [*words[:-1], f"output={output.replace('FILE', str(tmp_path / 'FILE'))}"]
    with pytest.raises(CommandError, match=r"^output must be a folder"):
        run(kind, words, command="test")


def test_a_full_disk_leaves_no_record_that_says_completed(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    kind, words = words_of("distill", tmp_path)
    monkeypatch.setattr("experiments.record.save_file", full)
    monkeypatch.setattr("distill.synthetic.save_file", full)
    with pytest.raises(RuntimeError, match="No space left"):
        run(kind, words, command="test")
    (file,) = tmp_path.rglob("record.json")
    assert json.loads(file.read_text())["status"] == "failed"


def test_federated_run_writes_a_line_for_each_client_and_round(tmp_path):
    folder = run(*words_of("federated", tmp_path), command="test")
    rows = [json.loads(line) for line in (folder / "clients.jsonl").read_text().splitlines()]
    assert [(row["round"], row["client"]) for row in rows] == [
        (number, client) for number in (1, 2, 3) for client in (0, 1, 2)
    ]
    metrics = record_of(folder)["metrics"]
    assert sum(row["bytes_up"] for row in rows) == metrics["bytes_up"]


def test_a_run_killed_while_its_set_is_evaluated_resumes(tmp_path):
    unbroken = run(*words_of("distill", tmp_path / "whole"), command="test")
    kind, words = words_of("distill", tmp_path / "killed")
    planned = plan(kind, words)
    folder = RunFolder(tmp_path / "killed" / kind / planned.name / planned.config_hash)
    folder.begin(planned.config)
    steps = planned.scenario.prepare("cpu").steps(folder)
    while not next(steps).text.startswith("small set"):
        pass
    steps.close()
    assert measured(run(kind, words, command="test")) == measured(unbroken)


@pytest.mark.parametrize(
    ("words", "pictures"),
    [
        (COMMANDS["distill"], {"synthetic", "evolution"}),
        (("distillation", "method=random ipc=1 network=mlp evaluation.networks=1"), {"synthetic"}),
        (COMMANDS["federated"], {"partition"}),
    ],
)
def test_a_run_leaves_its_pictures(words, pictures, tmp_path):
    kind, text = words
    folder = run(kind, [*text.split(), f"output={tmp_path}", "threads=1"], "", bar=False)
    drawn = {file.stem: file.read_bytes() for file in (folder / "figures").glob("*.png")}
    assert drawn.keys() == pictures
    assert all(content.startswith(b"\x89PNG") for content in drawn.values())


def test_a_set_that_is_decoded_can_be_looked_at(tmp_path):
    text = "method=low_rank parameterisation.source.rank=2 method.iterations=1 ipc=2 network=mlp"
    words = [*text.split(), "evaluation.networks=1", f"output={tmp_path}", "threads=1"]
    folder = run("distillation", words, "", bar=False)
    small = SyntheticSet.load(folder / "synthetic.safetensors")
    seen = Stack.read(folder / "synthetic.safetensors")
    expected = small.normalisation.quantise(small.data.images).permute(0, 2, 3, 1)
    assert small.code is not None
    assert (seen.pixels == expected.numpy()).all()
    assert seen.classes == list(range(10))


def test_choices_are_scored_on_the_part_held_out():
    words = ["method=random", "dataset.validation=0.2", "ipc=1", "network=mlp"]
    on_test, held_out = (
        plan("distillation", [*words, f"scored_on={part}"]).scenario.prepare("cpu")
        for part in ("test", "validation")
    )
    data = held_out.data
    assert held_out.test.images.equal(data.normalised(data.validation).images)
    assert on_test.test.images.equal(data.normalised(data.test).images)


@pytest.mark.parametrize(
    ("wanted", "here", "there", "expected"),
    [
        ("auto", True, True, "cuda"),
        ("auto", True, False, "cpu"),
        ("cpu", True, True, "cpu"),
        ("auto", False, True, "cpu"),
    ],
)
def test_an_accelerator_is_taken_where_all_is_in_this_process(
    wanted, here, there, expected, monkeypatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    assert _device(wanted, here) == expected


def test_an_accelerator_is_refused_where_clients_work_elsewhere(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(CommandError, match="device must be cpu where clients work in other"):
        _device("cuda", here=False)


def test_machine_names_the_accelerator_where_it_computes(monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    assert machine("cuda") == f"{machine('cpu')}, NVIDIA H100 80GB HBM3"


DIVERGING = (
    "distill method=dm ipc=1 method.iterations=60 network=mlp evaluation.networks=1 "
    "evaluation.recipe.epochs=2 parameterisation.source.clip=false threads=1"
)


@pytest.mark.parametrize("learning_rate", ["30", "1e3"])
def test_a_diverged_run_fails_and_keeps_its_last_good_checkpoint(learning_rate, tmp_path, capsys):
    words = [*DIVERGING.split(), f"optimiser.learning_rate={learning_rate}", f"output={tmp_path}"]
    assert main(words) == 1
    said = capsys.readouterr().err
    (file,) = tmp_path.rglob("record.json")
    record, folder = json.loads(file.read_text()), RunFolder(file.parent)
    assert (record["status"], record["metrics"]) == ("failed", {})
    assert said == f"fedcl: the run failed: {record['error']}\n"
    assert "the loss must stay within 1000 times" in said
    kept = folder.load_checkpoint()["state"]
    assert 0 <= kept["done"] < 60
    assert kept["code"]["pixels"].isfinite().all()
    assert main(words) == 1  # goes on from there, to the same end
    assert capsys.readouterr().err == said
    assert folder.load_checkpoint() is not None


def test_another_step_size_starts_a_run_of_its_own(tmp_path):
    words = [*DIVERGING.split(), f"output={tmp_path}"]
    assert main([*words, "optimiser.learning_rate=1e3"]) == 1
    assert main([*words, "optimiser.learning_rate=0.1"]) == 0
    found = [json.loads(file.read_text()) for file in tmp_path.rglob("record.json")]
    assert sorted(record["status"] for record in found) == ["completed", "failed"]


def test_flower_tells_what_goes_wrong_and_nothing_else():
    code = (
        "from experiments.cli import quiet; quiet(); from flwr.common.logger import log; "
        "log(20, 'sampled 3 nodes'); log(30, 'a node is gone')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    printed = done.stdout + done.stderr
    assert printed.count("a node is gone") == 1
    assert "sampled" not in printed
