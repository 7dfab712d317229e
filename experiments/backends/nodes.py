"""The scenario as Flower apps, composed on every node from the two strings of the run config.

A node is a worker and computes what all agree on by itself, from the seed: data, partition,
first network. Which client it plays stands in each message.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from distill.allocator import keep_freed_memory
from experiments.backends.base import Composition, Federation
from experiments.backends.results import Results
from experiments.build import plan
from experiments.scenarios.base import Outcome
from fedcl.federated.app import client_app
from fedcl.federated.remote import RemoteGrid

logger = logging.getLogger(__name__)

ACTIONS = ("update", "learn", "remember")  # what any scenario asks clients for
NODES_SECONDS = 120.0  # a node imports torch and joins in this time, on a busy machine


def server() -> ServerApp:
    """Returns the ServerApp that plays the rounds of whatever the run config composes."""
    app = ServerApp()
    app.main()(_serve)
    return app


def client() -> ClientApp:
    """Returns the ClientApp that does a client's part in it."""
    app = ClientApp()
    for action in ACTIONS:
        app.train(action)(_answer)
    return app


@cache
def composed(composition: Composition) -> Federation:
    """Returns the run that two strings describe, with its data; once a process.

    Raises:
        TypeError: If it has no clients.
    """
    planned = plan(composition.scenario, composition.words)
    if planned.settings["threads"] is not None:
        torch.set_num_threads(planned.settings["threads"])
    keep_freed_memory()
    ready = planned.scenario.prepare("cpu")
    if not isinstance(ready, Federation):
        raise TypeError(f"scenario must have clients, got {composition.scenario}")
    return ready


@cache
def _own_app(composition: Composition) -> ClientApp:
    federation = composed(composition)
    return client_app(federation.methods(), federation.world, federation.channel)


def _composition(run_config: Mapping[str, Any]) -> Composition:
    return Composition(str(run_config["scenario"]), str(run_config["overrides"]))


def _answer(message: Message, context: Context) -> Message:
    return _own_app(_composition(context.run_config))(message, context)


def _serve(grid: Grid, context: Context) -> None:
    results = Results(Path(str(context.run_config["results"])))
    try:
        results.finish(_played(grid, _composition(context.run_config), results))
    except Exception as error:
        results.fail(" ".join(f"{type(error).__name__}: {error}".split()))
        raise


def _played(grid: Grid, composition: Composition, results: Results) -> Outcome:
    federation = composed(composition)
    remote = RemoteGrid(grid, len(federation.world.clients), NODES_SECONDS)
    steps = federation.on(remote).steps(replace(results, resumable=federation.resumable))
    while True:
        try:
            results.note(next(steps))
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
