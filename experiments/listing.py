"""What can be named: the YAML groups and the first line of each file. It imports nothing slow."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from experiments.errors import CommandError

# The groups of each verb, in the order in which its help shows them.
GROUPS = {
    "distillation": ("dataset", "method", "network", "evaluation"),
    "federated": (
        "dataset",
        "federated",
        "method",
        "network",
        "partition",
        "shift",
        "training",
        "personalise",
        "compression",
        "availability",
        "link",
        "attack",
        "defence",
        "backend",
    ),
    "continual": ("dataset", "continual", "method", "network", "stream", "storage", "training"),
    "federated_continual": (
        "dataset",
        "federated_continual",
        "method",
        "network",
        "partition",
        "shift",
        "stream",
        "storage",
        "compression",
        "availability",
        "link",
        "backend",
    ),
}
PLURALS = {"method": "methods", "dataset": "datasets", "partition": "partitions"}
RUN_KEYS_HELP = (
    "seed=0  device=auto|cpu|cuda  threads=N  output=runs  data_root=FOLDER\n"
    "-m sweeps over comma-separated values: fedcl VERB -m seed=0,1,2 ..."
)


@cache
def config_folder() -> Path:
    """Returns the folder of YAML groups: beside this file in a wheel, else the checkout's."""
    packaged = Path(__file__).parent / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "configs"


def known(group: str) -> list[str]:
    """Returns the names of a group, sorted."""
    return sorted(file.stem for file in (config_folder() / group).glob("*.yaml"))


def listing(words: Sequence[str]) -> str:
    """Returns one line for each thing that can be named, or of one kind, or the settings of one.

    Raises:
        CommandError: If there is no such kind, or none of that name.
    """
    groups = sorted(
        folder.name
        for folder in config_folder().iterdir()
        if folder.is_dir() and folder.name != "scenario"
    )
    if not words:
        return "\n\n".join(f"{group}\n{_lines(group)}" for group in groups)
    kind = next((g for g in groups if words[0] in (g, PLURALS.get(g, f"{g}s"))), None)
    if kind is None or len(words) > 2:
        raise CommandError(f"unknown kind {' '.join(words)!r}; known: {', '.join(groups)}")
    if len(words) == 1:
        return _lines(kind)
    if words[1] not in known(kind):
        raise CommandError(f"unknown {kind} {words[1]!r}; known: {', '.join(known(kind))}")
    return (config_folder() / kind / f"{words[1]}.yaml").read_text().rstrip()


def verb_help(verb: str, kind: str) -> str:
    """Returns the groups of a verb with their names, its own keys, and those of every run."""
    if kind not in GROUPS:
        return _plain_help(verb)
    groups = "\n".join(f"  {group}={'|'.join(known(group))}" for group in GROUPS[kind])
    keys = "\n".join(f"  {line}" for line in _own_keys(kind))
    return (
        f"usage: fedcl {verb} [key=value ...]\n\n{groups}\n\n{keys}\n\n{RUN_KEYS_HELP}\n"
        "Every value of a part can be set, as network.width=64; fedcl list says what each name is,"
        "\nand fedcl list network convnet what can be set of it."
    )


def _plain_help(verb: str) -> str:
    usage = {
        "compare": "NAME [seeds=0,1,2] [jobs=N] [report=FOLDER] [key=value ...]\n\n"
        + _lines("comparison"),
        "plan": "VERB WORDS... | compare NAME WORDS...\n\nof distill, federated, continual, "
        "federated-continual: the words are those of the run",
        "report": "RUN_OR_FOLDER... [--out DIR]",
        "list": "[KIND [NAME]]",
    }
    return f"usage: fedcl {verb} {usage[verb]}"


def _own_keys(kind: str) -> Iterator[str]:
    text = (config_folder() / "scenario" / f"{kind}.yaml").read_text()
    lines = text.partition("_target_:")[2].splitlines()[1:]
    yield from (line.replace(": ", "=", 1) for line in lines if line.strip())


def _lines(group: str) -> str:
    return "\n".join(f"  {name:<20} {_about(group, name)}" for name in known(group))


def _about(group: str, name: str) -> str:
    with (config_folder() / group / f"{name}.yaml").open() as file:
        first = next(line for line in file if not line.startswith("# @package"))
    return first.lstrip("# ").strip().removeprefix(f"{name}: ")
