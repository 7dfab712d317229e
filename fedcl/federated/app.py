"""A federated method as Flower apps, which run on any grid: in process, Ray, or SuperNodes."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from distill.condenser import condense
from distill.rng import derive
from fedcl.federated.base import Condense, FederatedMethod, LocalTask, Records, World
from fedcl.federated.channel import Channel, ClientEnd


def client_app(
    methods: Mapping[str, FederatedMethod],
    world: World,
    channel: Channel,
    condense: Condense = condense,
) -> ClientApp:
    """Returns the ClientApp that does the client half of each method.

    Args:
        methods: By the action that asks for them: message ``train.<action>``.
        world: What was agreed on, with the clients' images.
        channel: What both sides compress.
        condense: Makes the clients' small sets.
    """
    app = ClientApp()
    for action, method in methods.items():
        app.train(action)(_local_half(method, world, channel, condense))
    return app


def local_task(message: Message, world: World, received: Records) -> LocalTask:
    """Returns what a message asks of a client, which keeps nothing yet.

    Args:
        message: From the server.
        world: What was agreed on.
        received: The message's arrays, decoded.
    """
    config = message.content["config"]
    if not isinstance(config, ConfigRecord):
        raise TypeError(f"config must be a ConfigRecord, got {type(config).__name__}")
    client, number, experience = (int(str(config[k])) for k in ("client", "round", "experience"))
    return LocalTask(world, client, number, experience, received, RecordDict())


def _local_half(
    method: FederatedMethod, world: World, channel: Channel, condense: Condense
) -> Callable[[Message, Context], Message]:
    def update(message: Message, context: Context) -> Message:
        end = ClientEnd(channel, method.vectors, world, context.state)
        received = end.received(dict(message.content.array_records))
        task = local_task(message, world, received)

        def rng() -> torch.Generator:
            return derive(world.seed, "compression", "client", task.client, "round", task.round)

        def arriving(records: Records) -> Records:
            return end.arriving(records, received, rng())

        task = replace(task, state=context.state, condense=condense, arriving=arriving)
        records = end.sent(method.local_update(task), received, rng())
        metrics = MetricRecord({"num-examples": len(task.data), **task.notes})
        return Message(RecordDict({**records, "metrics": metrics}), reply_to=message)

    return update
