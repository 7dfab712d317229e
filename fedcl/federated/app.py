"""A federated method as Flower apps, which run on any grid: in process, Ray, or SuperNodes."""

from collections.abc import Callable, Mapping

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from distill.rng import derive
from fedcl.federated.base import FederatedMethod, LocalTask, World
from fedcl.federated.channel import Channel, ClientEnd


def client_app(methods: Mapping[str, FederatedMethod], world: World, channel: Channel) -> ClientApp:
    """Returns the ClientApp that does the client half of each method.

    Args:
        methods: By the action that asks for them: message ``train.<action>``.
        world: What was agreed on, with the clients' images.
        channel: What both sides compress.
    """
    app = ClientApp()
    for action, method in methods.items():
        app.train(action)(_local_half(method, world, channel))
    return app


def _local_half(
    method: FederatedMethod, world: World, channel: Channel
) -> Callable[[Message, Context], Message]:
    def update(message: Message, context: Context) -> Message:
        config = message.content["config"]
        if not isinstance(config, ConfigRecord):
            raise TypeError(f"config must be a ConfigRecord, got {type(config).__name__}")
        end = ClientEnd(channel, method.vectors, world, context.state)
        task = LocalTask(
            world=world,
            client=int(str(config["client"])),
            round=int(str(config["round"])),
            experience=int(str(config["experience"])),
            received=end.received(dict(message.content.array_records)),
            state=context.state,
        )
        rng = derive(world.seed, "compression", "client", task.client, "round", task.round)
        records = end.sent(method.local_update(task), task.received, rng)
        metrics = MetricRecord({"num-examples": len(task.data), **task.notes})
        return Message(RecordDict({**records, "metrics": metrics}), reply_to=message)

    return update
