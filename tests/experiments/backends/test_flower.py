"""A back end is checked before anything starts, and Flower's refusals are one line."""

import tomllib
from pathlib import Path

import pytest

from experiments.backends.flower import APP, Link, _answer, _quoted
from experiments.backends.processes import FlowerRunError, free_port
from experiments.build import plan
from experiments.cli import main
from experiments.errors import CommandError

WORDS = ["federated=fedavg", "rounds=1", "clients=2", "network=mlp", "threads=1"]


def test_a_back_end_is_in_the_name_and_not_in_the_hash():
    local, ray = (plan("federated", [*WORDS, f"backend={b}"]) for b in ("local", "ray"))
    assert (local.name, ray.name) == ("fedavg", "fedavg-ray")
    assert local.config_hash == ray.config_hash


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("backend=ray backend.client_cpus=0", "backend.client_cpus must be >= 1, got 0"),
        ("backend=ray backend.client_cpus=2 backend.cpus=1", "backend.cpus must be >= 2, got 1"),
        ("backend=superlink backend.address=here", "backend.address must be host:port, got 'here'"),
        (
            "backend=superlink backend.root_certificates=ca.crt",
            "backend.root_certificates must be left out without backend.address, got ca.crt",
        ),
    ],
)
def test_a_value_that_breaks_its_rule_is_refused(words, reason):
    with pytest.raises(CommandError, match=reason):
        plan("federated", [*WORDS, *words.split()])


def test_ray_that_is_not_installed_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("experiments.backends.ray.find_spec", lambda _: None)
    assert main(["federated", *WORDS, "backend=ray", f"output={tmp_path}"]) == 2
    said = "backend=ray must find Ray, got none; install it with pip install -e '.[ray]'"
    assert capsys.readouterr().err == f"fedcl: {said}\n"
    assert not list(tmp_path.iterdir())


def test_a_superlink_that_is_not_there_is_one_line(tmp_path, capsys):
    address = f"127.0.0.1:{free_port()}"
    words = [*WORDS, "backend=superlink", f"backend.address={address}", f"output={tmp_path}"]
    assert main(["federated", *words]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"backend.address must be that of a SuperLink that runs, got {address}, where" in said


def test_flower_reads_the_configuration(tmp_path):
    link = Link("10.0.0.1:8000", root_certificates=str(tmp_path / 'a "folder"' / "ca.crt"))
    connection = tomllib.loads(link.configuration())["superlink"]["fedcl"]
    assert connection == {
        "address": "10.0.0.1:8000",
        "root-certificates": str(tmp_path / 'a "folder"' / "ca.crt"),
    }
    plain = tomllib.loads(Link("10.0.0.1:8000").configuration())["superlink"]
    assert plain == {"default": "fedcl", "fedcl": {"address": "10.0.0.1:8000", "insecure": True}}


@pytest.mark.parametrize("text", ["plain", 'a "b" \\ c', "tab\tline\n", "é 漢 🌸"])
def test_a_quoted_string_is_toml(text):
    assert tomllib.loads(f"x = {_quoted(text)}") == {"x": text}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"success": false, "error-message": "no\\n such app"}', "got no such app$"),
        ("Traceback", "got Traceback$"),
        ("", "got nothing$"),
    ],
)
def test_a_refusal_of_flower_is_one_line(text, said):
    with pytest.raises(FlowerRunError, match=f"flwr run must succeed, {said}"):
        _answer(text, "flwr run")


def test_no_project_file_holds_what_flower_would_rewrite():
    for file in (APP / "pyproject.toml", Path(__file__).parents[3] / "pyproject.toml"):
        flower = tomllib.loads(file.read_text()).get("tool", {}).get("flwr", {})
        assert "federations" not in flower


def test_every_string_of_the_run_config_is_one_that_the_app_knows():
    app = tomllib.loads((APP / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    assert app["config"].keys() == {"scenario", "overrides", "results"}
    for component in app["components"].values():
        assert (APP / component.replace(":app", ".py")).exists()
