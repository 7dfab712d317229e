"""The small sets of many clients: made together against one after the other.

One-shot clients with dm, under a Dirichlet partition. Both sides make the same sets from the same
draws, through the same networks; the larger a client's work is, the less there is to gain. No
released code is needed.

    python -m benchmarks.together [WORD...] [--dataset digits] [--clients 50 200] [--ipc 1 10]
"""

import sys
from argparse import Namespace
from collections.abc import Sequence

import torch
from flwr.app import RecordDict

from benchmarks.setting import compare, parser, status
from distill.condenser import Condenser, Task, condense
from distill.together import condense_together, stacks
from experiments.build import plan
from experiments.errors import CommandError
from experiments.scenarios.federated import Federated
from fedcl.federated.base import LocalTask
from fedcl.federated.small_sets import Distilling

WORDS = (
    *("federated=one_shot", "method=dm", "method.iterations=20", "network.width=32"),
    *("partition=dirichlet", "partition.alpha=0.1"),
)


def main(words: Sequence[str] | None = None) -> int:
    """Prints what making the sets takes on both sides; returns the exit status."""
    takes = parser("twenty steps of dm by every client of one shot", 3, folder=False)
    takes.add_argument("--dataset", default="digits")
    takes.add_argument("--clients", type=int, nargs="+", default=[50, 200])
    takes.add_argument("--ipc", type=int, nargs="+", default=[1, 10])
    takes.add_argument("words", metavar="WORD", nargs="*", default=["network.depth=2"])
    args = takes.parse_args(words)
    return status(lambda: measure(args))


def measure(args: Namespace) -> None:
    """Prints the timings and the difference of the sets."""
    torch.set_num_threads(args.threads)
    for clients in args.clients:
        for ipc in args.ipc:
            counts = (f"clients={clients}", f"ipc={ipc}")
            words = (f"dataset={args.dataset}", *WORDS, *args.words, *counts)
            method, tasks = asked(words)
            calls, images = len(list(stacks(method, tasks))), sum(len(t.real) for t in tasks)
            print(f"what the clients make in: fedcl federated {' '.join(words)}")
            print(f"{images / clients:.0f} images a client, {calls} calls together")
            alone = ("alone", lambda m=method, t=tasks: [condense(m, task) for task in t])
            print(compare(args, alone, lambda m=method, t=tasks: condense_together(m, t)))
            print(f"images {difference(method, tasks):.1e} apart")


def asked(words: Sequence[str]) -> tuple[Condenser, list[Task]]:
    """Returns what ``fedcl federated WORDS`` asks every client to make, and the method.

    Raises:
        CommandError: If the words are wrong, or the data can't be had.
    """
    scenario = plan("federated", words).scenario
    if not isinstance(scenario, Federated) or not isinstance(scenario.federated, Distilling):
        raise TypeError(f"words must compose clients that distil, got {' '.join(words)}")
    try:
        world = scenario.prepare("cpu").world
    except ValueError as error:
        raise CommandError(str(error)) from error
    tasks = [LocalTask(world, k, 1, 0, {}, RecordDict()) for k in range(scenario.clients)]
    return scenario.federated.method, [scenario.federated.wanted(task) for task in tasks]


def difference(method: Condenser, tasks: Sequence[Task]) -> float:
    """Returns how far a pixel of any set is from that of the set made alone."""
    made = zip(condense_together(method, tasks), tasks, strict=True)
    gaps = [ours.data.images - condense(method, task).data.images for ours, task in made]
    return max(gap.abs().max().item() for gap in gaps)


if __name__ == "__main__":
    sys.exit(main())
