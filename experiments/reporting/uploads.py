"""Uploads by client: the first image that each client sent of each class."""

import numpy as np
from numpy.typing import NDArray

from experiments.reporting.images import MAX_PER_CLASS, Stack
from experiments.reporting.runs import Run

MAX_CLIENTS = 20
NOTHING = 240  # the grey of a class that a client has no image of


def by_client(run: Run) -> Stack | None:
    """Returns the first image of each class of each client, whose number is the label.

    None where a run keeps no union of all clients' sets.
    """
    stack = Stack.read(run.folder / "synthetic.safetensors")
    owner = owners(run, stack)
    if owner is None:
        return None
    classes = np.unique(stack.labels)[:MAX_PER_CLASS].tolist()
    clients = range(min(int(owner.max()) + 1, MAX_CLIENTS))
    tiles = np.full((len(clients) * len(classes), *stack.pixels.shape[1:]), NOTHING, np.uint8)
    for client in clients:
        for column, label in enumerate(classes):
            own = np.flatnonzero((owner == client) & (stack.labels == label))
            if len(own):
                tiles[client * len(classes) + column] = stack.pixels[own[0]]
    return Stack(tiles, np.repeat(np.array(clients), len(classes)))


def owners(run: Run, stack: Stack) -> NDArray[np.int64] | None:
    """Returns which client sent each image of a union, ``(N,)``; None where it is no such union.

    Clients come in order, each with its classes in order and as many images of a class as it
    was asked for or has.
    """
    counts, ipc = run.matrix("class_counts"), run.settings.get("ipc")
    if run.made_by_server or counts is None or ipc is None or run.number("failures"):
        return None
    sent = np.minimum(counts, float(ipc)).astype(np.int64)
    labels = np.concatenate([np.repeat(np.arange(len(row)), row) for row in sent])
    if not np.array_equal(labels, stack.labels):
        return None
    return np.repeat(np.arange(len(sent)), sent.sum(1))
