"""The command ``fedcl``: a verb, then Hydra overrides. It imports late, so it answers fast."""

import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

VERBS = {
    "distill": "make a small set out of a data set and see what networks learn from it",
    "federated": "simulate federated rounds, or one shot of small sets",
    "continual": "learn a stream of experiences, with or without a memory",
    "federated-continual": "federated clients, each learning its own stream",
    "plan": "say what another verb's run, or a comparison, would send, hold and take",
    "compare": "run every arm of configs/comparison/NAME.yaml, then write the report",
    "report": "write index.html, tables and figures from runs",
    "list": "list what can be named",
}
KINDS = {"distill": "distillation", "federated-continual": "federated_continual"}
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}

AGAIN = "; the same command goes on from here"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0 completed, 1 failed, 2 wrong command."""
    words = list(sys.argv[1:] if argv is None else argv)
    quiet()
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    verb, *rest = words
    if verb == "--version":
        print(version("fedcl"))
        return 0
    if verb not in VERBS:
        return _refused(f"unknown verb {verb!r}; known: {', '.join(VERBS)}")
    if "-h" in rest or "--help" in rest:
        print(_verb_help(verb))
        return 0
    return _dispatch(verb, rest)


def quiet() -> None:
    """Sends this process's log to stderr, and keeps Flower and Ray from calling home."""
    os.environ |= {key: os.environ.get(key, value) for key, value in QUIET.items()}
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    flower = logging.getLogger("flwr")  # sets its own level and handler once it is imported
    flower.propagate = False
    flower.addFilter(_warns)


def _warns(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def _dispatch(verb: str, rest: list[str]) -> int:
    from experiments.errors import CommandError, RunFailedError

    try:
        _do(verb, rest)
    except CommandError as error:
        return _refused(str(error))
    except RunFailedError as error:
        print(f"fedcl: the run failed: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a disk that is full, most often
        print(f"fedcl: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        anew = verb in ("list", "plan", "report")
        print(f"fedcl: interrupted{'' if anew else AGAIN}", file=sys.stderr)
        return 130
    return 0


def _do(verb: str, rest: list[str]) -> None:
    if verb == "list":
        from experiments.listing import listing

        print(listing(rest))
    elif verb == "report":
        from experiments.report import report

        print(report(rest))
    elif verb == "plan":
        from experiments.planning import planning

        print(planning(rest))
    elif verb == "compare":
        from experiments.compare import compare

        print(compare(rest))
    else:
        _run(verb, rest)


def _run(verb: str, rest: list[str]) -> None:
    from experiments.run import run, sweep

    kind = KINDS.get(verb, verb)
    if {"-m", "--multirun"} & set(rest):
        overrides = [word for word in rest if word not in ("-m", "--multirun")]
        for folder in sweep(kind, verb, overrides):
            _tell(folder)
        return
    _tell(run(kind, rest, " ".join(["fedcl", verb, *rest])))


def _tell(folder: Path) -> None:
    """Says what came out, and prints the folder."""
    from experiments.reporting.prose import outcome
    from experiments.reporting.runs import Run

    logging.getLogger(__name__).info(outcome(Run.read(folder)))
    print(folder)


def _refused(reason: str) -> int:
    print(f"fedcl: {reason}", file=sys.stderr)
    return 2


def _usage() -> str:
    verbs = "\n".join(f"  {verb:<20} {text}" for verb, text in VERBS.items())
    return f"usage: fedcl VERB [key=value ...]\n\n{verbs}\n\nfedcl VERB --help says more."


def _verb_help(verb: str) -> str:
    from experiments.listing import verb_help

    return f"fedcl {verb}: {VERBS[verb]}\n\n{verb_help(verb, KINDS.get(verb, verb))}"


if __name__ == "__main__":
    sys.exit(main())
