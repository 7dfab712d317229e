"""Every YAML composes and builds; a wrong word gets one line and leaves nothing."""

import hashlib
from collections import defaultdict

import pytest
import yaml

from experiments.build import plan
from experiments.cli import KINDS, main
from experiments.compose import swept
from experiments.listing import config_folder, known

NEEDED = {
    "distillation": ["method=random"],
    "federated": ["federated=fedavg"],
    "continual": ["continual=naive"],
    "federated_continual": ["federated_continual=fedavg"],
}
WITH_MEMORY = [
    name
    for name in known("continual")
    if "${buffer}" in (config_folder() / "continual" / f"{name}.yaml").read_text()
]
WITH = {
    "federated/one_shot": ["method=random"],
    **{f"continual/{name}": ["method=random", "buffer.images=20"] for name in WITH_MEMORY},
    **{f"continual/{name}": [] for name in ("composition", "distilled_replay", "olcgm")},
    **{f"continual/{name}": ["buffer.images=20"] for name in ("addressable_memories", "ssd")},
    "federated_continual/local_replay": ["method=random", "buffer.images=20"],
    "federated_continual/shared_buffer": ["method=random", "buffer.images=20"],
}
GROUPS = {
    "distillation": ["dataset", "method", "network", "evaluation"],
    "federated": ["federated", "partition", "shift", "training", "personalise"],
    "continual": ["continual", "stream", "storage"],
    "federated_continual": ["federated_continual", "shift"],
}
CHOICES = [
    (kind, group, name) for kind in GROUPS for group in GROUPS[kind] for name in known(group)
]
PARTS = [
    (part, name)
    for part in ("objective", "parameterisation", "start", "augmentation")
    for name in known(part)
]


@pytest.mark.parametrize(("kind", "group", "name"), CHOICES, ids=lambda value: value)
def test_every_choice_builds(kind, group, name):
    words = [word for word in NEEDED[kind] if not word.startswith(f"{group}=")]
    words += [f"{group}={name}", *WITH.get(f"{group}/{name}", [])]
    if group == "storage":
        words = ["continual=replay", *WITH["continual/replay"], f"storage={name}"]
    if (group, name) == ("training", "local"):
        words.append("federated.rounds=2")
    if (group, name) == ("dataset", "npz"):
        words.append("dataset.path=nowhere.npz")
    assert plan(kind, words).kind == kind


@pytest.mark.parametrize(("part", "name"), PARTS, ids=lambda value: value)
def test_every_part_of_a_method_builds(part, name):
    assert plan("distillation", ["method=dm", f"{part}={name}"]).name == "dm"


BUILT = defaultdict[str, set[str]](set)  # words, by scenario


@pytest.mark.parametrize("name", known("comparison"))
def test_every_word_of_a_comparison_builds(name):
    content = yaml.safe_load((config_folder() / "comparison" / f"{name}.yaml").read_text())
    for line in content["arms"]:
        verb, *words = line.split()
        kind = KINDS.get(verb, verb)
        for combination in swept(words):
            if not BUILT[kind].issuperset(combination):  # the command itself builds them all
                plan(kind, combination)
                BUILT[kind].update(combination)


def test_hash_changes_with_what_decides_the_numbers_only():
    first = plan("distillation", ["method=random"]).config_hash
    assert first == plan("distillation", ["method=random", "output=elsewhere"]).config_hash
    assert first != plan("distillation", ["method=random", "seed=1"]).config_hash
    assert first != plan("distillation", ["method=random", "network.width=8"]).config_hash


def test_changed_data_of_ones_own_are_another_run(tmp_path):
    file, words = tmp_path / "mine.npz", ["method=random", "dataset=npz"]
    hashes = [plan("distillation", [*words, f"dataset.path={file}"]).config_hash]  # no file yet
    for content in (b"one", b"two", b"one"):
        file.write_bytes(content)
        composed = plan("distillation", [*words, f"dataset.path={file}"])
        assert composed.config["dataset"]["sha256"] == hashlib.sha256(content).hexdigest()
        hashes.append(composed.config_hash)
    assert hashes[1] == hashes[3]
    assert len(set(hashes)) == 3


def test_a_sweep_is_every_combination():
    assert swept(["a=1,2", "b=x"]) == [["a=1", "b=x"], ["a=2", "b=x"]]


WRONG = {
    "distill method=random dataset=nope": "digits",
    "distill": "method must be given, as method=NAME; known: best, cafe",
    "distill method=random ipc=0": "ipc must be >= 1, got 0",
    "distill method=random ipc=x": "ipc must be a whole number, got 'x'",
    "distill method=random method.iterations=9": (
        "unknown setting 'method.iterations'; method has: none as chosen"
    ),
    "distill method=dmm": "unknown method 'dmm'; did you mean dm? known: best, cafe, ",
    "distill method=dm iterations=9": "'iterations'; did you mean method.iterations?",
    "federated federated=fedavg epochs=9": "did you mean experts.epochs or training.epochs?",
    "distill metohd=dm": "unknown setting 'metohd'; did you mean method?",
    "distill method=dm method.objective.reel_batch=9": "did you mean objective.real_batch?",
    "distill method=dm method.optimiser.momentum=0": "did you mean optimiser.momentum?",
    "distill method=dm method@x=dm": "unknown setting 'method@x'; did you mean method?",
    "distill method=dm network.width=8,9": "must be one value, got network.width=8,9; -m makes a",
    "distill method=dm scenario=federated": "scenario must be left out: it is the verb's",
    "distill method=dm across.mlp=1": "unknown setting 'across.mlp'; across has: none as chosen",
    "distill method=dm ~ipc": "ipc must be given, as ipc=VALUE",
    "distill method=dm network.zzz=9": "unknown setting 'network.zzz'; network has: depth, width",
    "distill method=dm zzz=9": "unknown setting 'zzz'; known: across,",
    "distill method=tesla objective.exact=no": "objective.exact must be true or false, got 'no'",
    "distill method=dm random=off": "random must be true or false, got 'off'",
    (
        "distill method=haba parameterisation.source.clip=1"
    ): "parameterisation.source.clip must be true or false, got 1",
    "distill method=random objective=distribution": "objective must be left out with method=random",
    "federated federated=fedavg partition=nope": "known: classes, dirichlet, iid, quantity, shards",
    "federated federated=fedavg clients=0": "clients must be >= 1, got 0",
    "federated federated=fedavg clients=2000": "clients must be <= 1437",
    "federated federated=fedavg partition.alpha=-1": "partition.alpha must be > 0, got -1",
    "federated federated=fedavg shift=noise shift.sigma=0": "shift.sigma must be > 0, got 0",
    (
        "federated federated=fedavg availability=unreliable availability.dropout=1"
    ): "availability.dropout must be in [0, 1), got 1",
    (
        "federated federated=fedavg availability=unreliable availability.late=1"
    ): "availability.late must leave a client for round 1, got 1 of 10 clients; lower it",
    (
        "federated-continual federated_continual=fedavg link=mobile link.deadline=0"
    ): "link.deadline must be > 0, got 0",
    "federated federated=fedavg link=nope": "'nope'; did you mean none? known: mobile, none",
    (
        "federated federated=flower federated.strategy._target_=flwr.serverapp.strategy.Kruum"
    ): "_target_ must be what can be imported, got flwr.serverapp.strategy.Kruum",
    "compare toy jobs=0": "jobs must be a whole number >= 1, got '0'",
    "compare toy jobs=1,2": "jobs must be a whole number >= 1, got '1,2'",
    "compare toy seeds": "seeds must be whole numbers, as seeds=0,1,2, got ''",
    "compare toy report": "report must be a folder, as report=FOLDER, got nothing",
    "federated federated=fedavg method=dm": "method must be left out with federated=fedavg",
    "continual continual=replay method=random buffer.images=3": "got 3 images (buffer.images=3)",
    "continual continual=replay method=random buffer.images=9 buffer.bytes=9": "exactly one of",
    "federated federated=fedavg attack=null": "attack must be one of backdoor, ",
    "federated federated=fedavg network=3": "network must be one of alexnet, ",
    "federated federated=fedavg =3": "a word must be KEY=VALUE, got '=3'",
    "federated federated=fedavg --rounds": "a word must be KEY=VALUE, with quotes around ",
    "compare toy -m": "special characters, got '-m'",
    "compare toy rounds=1": "arm 'distill dataset=digits method=random,herding,",
    "distill method=dm output=": "output must be a folder, as output=FOLDER, got ''",
    "compare nope": "unknown comparison 'nope'; known: continual_cifar",
    "dance": "unknown verb 'dance'; known: distill",
    "distill method=dm distiller.width=4": (
        "distiller.width must be set as network.width, or with a distiller=NAME of its own"
    ),
    "list nope": "unknown kind 'nope'; known:",
    "list networks nope": "unknown network 'nope'; known: alexnet, convnet, ",
    "list network convnet width": "unknown kind 'network convnet width'; known:",
    (
        "continual continual=replay method=idc buffer.images=20 buffer.allocation=adaptive"
    ): "must get buffer.allocation=fixed, ",
    (
        "continual continual=gdumb method=rtp buffer.images=20 storage=jpeg"
    ): "got fixed, None and Jpeg",
    "federated federated=one_shot method=glad": "method must learn all that decodes its images",
    "federated federated=one_shot method=rtp compression=jpeg": "compression.images must be null",
    "federated federated=collabdm method=rtp": "method must keep its images as pixels here",
    (
        "federated federated=one_shot method=frepo evaluation=frepo"
    ): "evaluation.updates must be null where a server trains, which counts epochs, got 1000",
    (
        "federated-continual federated_continual=local_replay method=haba buffer.images=20"
    ): "method must keep its images as pixels",
    (
        "federated-continual federated_continual=shared_buffer method=low_rank buffer.images=20"
    ): "method must keep its images as pixels",
    (
        "continual continual=replay method=dm buffer.images=20 storage=float16"
    ): "known: bases, float32, jpeg, low_rank, uint8",
    (
        "federated-continual federated_continual=local_replay method=random buffer.images=20 "
        "buffer.staged=5"
    ): "buffer.staged must be null where clients keep their images, got 5",
    (
        "continual continual=replay method=random buffer.images=20 buffer.staged=0"
    ): "buffer.staged must be >= 1, got 0",
    (
        "continual continual=replay method=random storage=bases buffer.bytes=1300"
    ): "got 0 images (buffer.bytes=1300, 33 an image after 2048 that all share)",
    "distill method=random scored_on=validation": "dataset.validation must be > 0 with scored_on=",
    "federated federated=feddm method=dc": (
        "network_source must be one with recipe, which method=dc sets, "
        "got network_source=around_given"
    ),
    "federated federated=fedlgd method=kmeans": (
        "method must be one with iterations, which federated=fedlgd sets, got method=kmeans"
    ),
    "distill method=idc objective=distribution": (
        "objective must be one with statistic.layers, which method=idc sets, "
        "got objective=distribution"
    ),
    "distill method=dm +method.foo=3": "must be one with foo, which the command sets, got method=",
    "federated federated=feddm network_source=fresh": (
        "network_source must be one with radius, which federated=feddm reads, "
        "got network_source=fresh"
    ),
    "federated federated=fedadam federated.betas=0.9": "federated.betas must be a list, got 0.9",
    "federated federated=ensemble personalise=local": "personalise must be none where the clients'",
    "federated federated=one_shot method=random defence=krum participation=0.4": (
        "defence.attackers must be < 1, half of the 4 uploads less one, got 1"
    ),
    "distill method=random device=abacus": "unknown device 'abacus'; known: auto, cpu, cuda",
    "distill method=random device=cuda": "device must be one that torch finds here, got cuda",
}


@pytest.mark.parametrize("command", WRONG)
def test_wrong_command_gets_one_line_and_status_2(command, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    line = capsys.readouterr().err.strip()
    assert WRONG[command] in line
    assert "\n" not in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["optimiser.rates={labels: 3}", "optimiser.rates.labels=3"])
def test_a_mapping_takes_new_keys(word):
    config = plan("distillation", ["method=datm", word]).config
    assert config["optimiser"]["rates"] == {"rates": 0.01, "labels": 3}
    assert plan("distillation", ["method=dm", word]).config["optimiser"]["rates"] == {"labels": 3}


def test_values_change_no_later_composition():
    words = ["method=dm", "network=mlp"]
    first = plan("distillation", words).config
    assert plan("distillation", [*words, "ipc=7", "network.width=3"]).config["ipc"] == 7
    assert plan("distillation", words).config == first


def test_missing_data_says_what_was_looked_for_and_both_remedies(tmp_path, capsys, monkeypatch):
    def no_network(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    command = f"distill method=random dataset=fashion_mnist data_root={tmp_path / 'data'}"
    assert main([*command.split(), f"output={tmp_path / 'runs'}"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    for part in ("fashion_mnist.npz", str(tmp_path / "data"), "x_train", "network"):
        assert part in line
    assert not (tmp_path / "runs").exists()


def test_a_listed_name_shows_the_settings_that_a_run_takes(capsys):
    assert main(["list", "networks", "convnet"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert plan("distillation", ["method=random"]).config["network"] == shown
