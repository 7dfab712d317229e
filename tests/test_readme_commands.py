"""What the README tells its reader to type works."""

import re
import shlex
from pathlib import Path

import pytest

from experiments.cli import main

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
VERBS_WITH_OUTPUT = {"distill", "federated", "continual", "federated-continual", "compare"}
SLOW = re.compile(r"\s# slow\b")


def commands(text: str) -> list[str]:
    """Returns the commands of the bash blocks, with their comments, continuations joined."""
    blocks = re.findall(r"^```bash[ \t]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    joined = re.sub(r"[ \t]*\\\n[ \t]*", " ", "".join(blocks))
    lines = (line.strip() for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def quick_fedcl_commands(text: str) -> list[str]:
    """Returns the fedcl commands that are not marked slow, without their comments."""
    quick = (c for c in commands(text) if c.startswith("fedcl ") and not SLOW.search(c))
    return [shlex.join(shlex.split(command, comments=True)) for command in quick]


QUICK = quick_fedcl_commands(README.read_text()) if README.is_file() else []


def test_commands_are_read_from_bash_blocks_only():
    text = (
        "```bash\nmake demo  # first\n# a comment\nfedcl list methods  # quick\n```\n"
        "fedcl list outside\n```python\nfedcl = 1\n```\n"
        "```bash\nfedcl distill \\\n    ipc=1\nfedcl compare big  # slow: an hour\n```\n"
    )
    assert [command.split("  ")[0] for command in commands(text)] == [
        "make demo",
        "fedcl list methods",
        "fedcl distill ipc=1",
        "fedcl compare big",
    ]
    assert quick_fedcl_commands(text) == ["fedcl list methods", "fedcl distill ipc=1"]


def test_readme_python_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (whole, *_) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    exec(compile(whole, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("100 6500\n[0.")


def test_readme_shows_a_command_that_can_be_tried_at_once():
    assert README.is_file(), "README.md must exist"
    assert QUICK, "README.md must show a fedcl command in a bash block without a slow mark"


@pytest.mark.parametrize("command", QUICK, ids=lambda command: command.removeprefix("fedcl "))
def test_readme_command_completes(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = shlex.split(command)[1:]
    if argv[0] in VERBS_WITH_OUTPUT:
        argv.append(f"output={tmp_path / 'runs'}")
    assert main(argv) == 0


def test_readme_begins_with_the_demo_and_the_tests():
    first = [shlex.split(command, comments=True) for command in commands(README.read_text())[:2]]
    assert first == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_target_of_the_readme_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
