"""What the in-process grid costs: milliseconds a message, and a thousand clients in one run.

Messages hold 1 kB, and so do replies; both are turned into bytes and back, and counted. Then a
run of one shot with dm, as its user starts it, in a process of its own. No released code is needed.

    python -m benchmarks.grid [--messages 500] [--clients 1000] [--iterations 100]
"""

import resource
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.alternate import taken
from benchmarks.memory import peak
from benchmarks.setting import parser, status
from experiments.run import run
from fedcl.federated.grid import LocalGrid

BYTES = 1000  # of a message's array
WORDS = ("dataset=digits", "federated=one_shot", "method=dm", "ipc=1", "partition=iid")


def main(words: Sequence[str] | None = None) -> int:
    """Prints the seconds and the peak memory; returns the exit status."""
    takes = parser("messages of 1 kB, and a run of many clients", 5, folder=False)
    takes.add_argument("--messages", type=int, default=500)
    takes.add_argument("--clients", type=int, default=1000)
    takes.add_argument("--iterations", type=int, default=100)
    args = takes.parse_args(words)
    return status(lambda: measure(args))


def measure(args: Namespace) -> None:
    """Prints what a message takes, and what a run does."""
    torch.set_num_threads(args.threads)
    send = echoes(args.messages)
    send()
    times = [taken(send) for _ in range(args.rounds)]
    for clock, seconds in zip(("wall", "processor"), zip(*times, strict=True), strict=True):
        each = sorted(1000 * s / args.messages for s in seconds)
        median, spread = each[len(each) // 2], f"{each[0]:.2f} to {each[-1]:.2f}"
        print(f"{clock:<10}{median:.2f} ms a message of 1 kB and its reply ({spread})")
    with TemporaryDirectory() as folder:
        words = [
            *(*WORDS, f"clients={args.clients}", f"method.iterations={args.iterations}"),
            *("network=mlp", f"threads={args.threads}"),
        ]
        print(f"fedcl federated {' '.join(words)}")
        clock, before = time.perf_counter(), of_children()
        print(peak(started, [*words, f"output={folder}"]).row("run"))
        wall, processor = time.perf_counter() - clock, of_children() - before
        print(f"{wall:.0f} s, {processor:.0f} s of a processor, libraries and data included")


def echoes(count: int) -> Callable[[], int]:
    """Returns what sends a message to each of some clients, which send it back, and counts them."""
    app = ClientApp()

    @app.train()
    def echo(message: Message, context: Context) -> Message:  # noqa: ARG001
        return Message(message.content, reply_to=message)

    grid = LocalGrid(app, count)
    array = ArrayRecord({"array": Array(np.zeros(BYTES, np.uint8))})

    def send() -> int:
        messages = [Message(RecordDict({"a": array}), n, "train") for n in grid.get_node_ids()]
        return sum(reply.has_content() for reply in grid.send_and_receive(messages))

    return send


def of_children() -> float:
    """Returns the processor seconds of all processes that this one started, and that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def started(words: Sequence[str]) -> Callable[[], Path]:
    """Returns the run that ``fedcl federated WORDS`` starts."""
    return lambda: run("federated", list(words), "fedcl federated", bar=False)


if __name__ == "__main__":
    sys.exit(main())
