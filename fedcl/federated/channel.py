r"""A channel: what both sides compress, and what each must remember for it.

Uplink. A client that received :math:`\hat{x}` and trained to :math:`y` sends :math:`Q(\delta)`,
:math:`\delta = y - \hat{x} + e`, and keeps :math:`e \leftarrow \delta - Q(\delta)` where errors
are fed back; the server takes :math:`x + Q(\delta)` for its weights, x being the server's own.

Downlink. The server keeps the view :math:`\hat{x}` that clients have, sends
:math:`q = Q(x - \hat{x})`, and both sides set :math:`\hat{x} \leftarrow \hat{x} + q`. What a
round leaves out is in the next round's difference, so nothing else is to be remembered. A client
that wasn't asked in some rounds has an older view, and gets the changes that it missed as well;
where these are no fewer bytes than the view, or its last answer failed, the view as it is. Before
the first message all know the first network, so that it is never sent; and a change of nothing at
all isn't sent either.

Images of small sets are compressed one by one on their way up, whatever was sent before.

References:
    | Error Feedback Fixes SignSGD and other Gradient Compression Schemes
    | (Karimireddy, Rebjock, Stich and Jaggi, ICML 2019), https://arxiv.org/abs/1901.09847
    | DoubleSqueeze: Parallel Stochastic Gradient Descent with Double-Pass Error-Compensated
    | Compression (Tang, Lian, Yu, Zhang and Liu, ICML 2019), https://arxiv.org/abs/1905.05957
    | EF21: A New, Simpler, Theoretically Better, and Practically Faster Error Feedback
    | (Richtarik, Sokolov and Fatkhullin, NeurIPS 2021), https://arxiv.org/abs/2106.05203:
      differences to a view

Differences from the papers: many local steps lie between two messages; in the papers, one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from flwr.app import ArrayRecord, RecordDict
from torch import Tensor

from distill.rng import derive
from fedcl.compression.base import Compressor
from fedcl.compression.images import CompressedImages
from fedcl.federated.base import IMAGES, MODEL, Records, World
from fedcl.stores.base import Store
from fedcl.wire import BadUploadError, check_weights, pack_tensors, pack_weights, payload_bytes

CHANGE, VIEW, ERROR = "-change", "-view", "-error"  # endings of the names of records


@final
@dataclass(frozen=True)
class Channel:
    """What is compressed.

    Attributes:
        up: Of what clients send; None: nothing.
        down: Of what the server sends; None: nothing.
        error_feedback: Whether clients keep what a message left out, for their next one.
        images: How clients send the images of small sets; None: as uint8 pixels.
    """

    up: Compressor | None = None
    down: Compressor | None = None
    error_feedback: bool = True
    images: Store | None = None

    @property
    def keeps_state(self) -> bool:
        """Whether clients keep something from round to round: views, or errors."""
        return self.down is not None or (self.up is not None and self.error_feedback)

    def check(self, vectors: Sequence[str], weights_up: bool, small_sets: bool) -> None:
        """Refuses a compression where a method sends nothing that it could shorten.

        Args:
            vectors: The records of weights that the method sends.
            weights_up: Whether its clients send some.
            small_sets: Whether its clients send small sets as pixels.

        Raises:
            ValueError: If so.
        """
        if (self.up is not None or self.down is not None) and not vectors:
            raise ValueError(
                f"compression must be none{' or jpeg' if small_sets else ''} for a method that "
                "sends no weights; its images are uint8 already"
            )
        if self.up is not None and self.down is None and not weights_up:
            raise ValueError(
                "compression.up must be null for a method whose clients send no weights"
            )
        if self.images is not None and not small_sets:
            raise ValueError(
                "compression.images must be null for a method that uploads no small sets, or other "
                "arrays beside their images"
            )

    def of_images(self, world: World) -> CompressedImages | None:
        """Returns how the images of small sets are sent; None: as they are."""
        if self.images is None:
            return None
        return CompressedImages(self.images, world.image_shape, world.normalisation)


@final
@dataclass(frozen=True)
class _Message:
    code: ArrayRecord
    change: Tensor  # as it is decoded
    left_out: Tensor


@final
@dataclass(frozen=True)
class ClientEnd:
    """A client's end in one round.

    Attributes:
        channel: What is compressed.
        vectors: Names of the records that it concerns.
        world: What was agreed on.
        state: What the client keeps; views and errors are added to it.
    """

    channel: Channel
    vectors: Sequence[str]
    world: World
    state: RecordDict

    def received(self, records: Records) -> Records:
        """Returns what came, decoded."""
        if self.channel.down is None:
            return records
        codes = {name: _by_age(records, name) for name in self.vectors}
        changes = {change for ages in codes.values() for change in ages}
        plain = {name: record for name, record in records.items() if name not in changes}
        for name in self.vectors:
            if name not in plain:
                view = self._view(name)
                for change in codes[name]:
                    decoded = self.channel.down.decode(records[change], _sizes(view))
                    view = _plus(view, decoded)
                plain[name] = pack_tensors(view)
            self.state[name + VIEW] = plain[name]
        return plain

    def sent(self, records: Records, received: Records, rng: torch.Generator) -> Records:
        """Returns what goes up, encoded.

        Args:
            records: What the method sends.
            received: What it had received, decoded.
            rng: For codes that round at random.
        """
        images = self.channel.of_images(self.world)
        if images is not None and IMAGES in records:
            records = {**records, IMAGES: images.encode(records[IMAGES])}
        if self.channel.up is None:
            return records
        encoded = {name: record for name, record in records.items() if name not in self.vectors}
        for name, message in self._coded(records, received, rng):
            if self.channel.error_feedback:
                self.state[name + ERROR] = pack_tensors({"error": message.left_out})
            encoded[name + CHANGE] = message.code
        return encoded

    def arriving(self, records: Records, received: Records, rng: torch.Generator) -> Records:
        """Returns what the server will read of what :meth:`sent` makes of weights, decoded."""
        read = dict(records)
        for name, message in self._coded(records, received, rng):
            own = dict(received[name].to_torch_state_dict())
            read[name] = pack_tensors(_plus(own, message.change))
        return read

    def _coded(
        self, records: Records, received: Records, rng: torch.Generator
    ) -> Iterator[tuple[str, "_Message"]]:
        up = self.channel.up
        for name in self.vectors:
            if name in records and up is not None:
                before, after = (r[name].to_torch_state_dict() for r in (received, records))
                wanted = _flat(after) - _flat(before) + self._error(name, _flat(before))
                code = up.encode(wanted, _sizes(before), rng)
                change = up.decode(code, _sizes(before))
                yield name, _Message(code, change, wanted - change)

    def _view(self, name: str) -> dict[str, Tensor]:
        kept = self.state.get(name + VIEW)
        if isinstance(kept, ArrayRecord):
            return dict(kept.to_torch_state_dict())
        return first_view(name, self.world)

    def _error(self, name: str, like: Tensor) -> Tensor:
        kept = self.state.get(name + ERROR)
        if isinstance(kept, ArrayRecord):
            return kept.to_torch_state_dict()["error"]
        return torch.zeros_like(like)


@final
class ServerEnd:
    """The server's end, from round to round."""

    def __init__(self, channel: Channel, vectors: Sequence[str], world: World) -> None:
        self.channel, self.vectors, self.world = channel, vectors, world
        self.views = {name: first_view(name, world) for name in vectors}
        self.dense: Records = {}
        # The latest rounds' changes, the oldest first; how many of them each client has not had.
        self._changes: list[Records] = []
        self._missed = dict.fromkeys(range(len(world.clients)), 0)
        self._asked = set[int]()

    def begin(self, records: Records, number: int) -> None:
        """Takes what a round sends to all; moves the views on."""
        self.dense = records
        self._asked = set()
        if self.channel.down is None:
            return
        rng = derive(self.world.seed, "compression", "server", "round", number)
        changes = dict[str, ArrayRecord]()
        for name in self.vectors:
            view, wanted = self.views[name], dict(records[name].to_torch_state_dict())
            gap = _flat(wanted) - _flat(view)
            if gap.any():
                code = self.channel.down.encode(gap, _sizes(view), rng)
                self.views[name] = _plus(view, self.channel.down.decode(code, _sizes(view)))
                changes[name] = code
        self._changes = self._worth([*self._changes, changes])
        self._missed = {client: missed + 1 for client, missed in self._missed.items()}

    def sent(self, client: int) -> Records:
        """Returns what goes down to a client: changes, or views where these are shorter."""
        if self.channel.down is None:
            return self.dense
        others = {name: r for name, r in self.dense.items() if name not in self.vectors}
        self._asked.add(client)
        missed = self._missed.get(client, len(self._changes) + 1)
        if missed <= len(self._changes):
            ages = enumerate(reversed(self._changes[-missed:]))
            own = {_aged(n, age): code for age, changes in ages for n, code in changes.items()}
            return {**others, **own}
        return {**others, **{name: pack_tensors(view) for name, view in self.views.items()}}

    def arrived(self) -> Records:
        """Returns what clients read of this round's compressed records; none: an empty mapping."""
        if self.channel.down is None:
            return {}
        return {name: pack_tensors(self.views[name]) for name in self.vectors}

    def received(self, records: Records) -> Records:
        """Returns what came up, decoded and set upon the server's own weights.

        Raises:
            BadUploadError: If it can't be decoded.
        """
        plain, images = dict(records), self.channel.of_images(self.world)
        if images is not None and IMAGES in plain:
            plain[IMAGES] = images.decode(plain[IMAGES])
        for name in self.vectors:
            if name + CHANGE in plain and self.channel.up is not None:
                own = dict(self.dense[name].to_torch_state_dict())
                change = self.channel.up.decode(plain.pop(name + CHANGE), _sizes(own))
                plain[name] = pack_tensors(_plus(own, change))
            elif name in plain and self.channel.up is not None:
                raise BadUploadError(f"records must be compressed, got {name} as it is")
            elif name in plain and self.channel.down is not None:
                plain[name] = self._moved(name, plain[name])
        return plain

    def end(self, accepted: Iterable[int]) -> None:
        """Notes which of the clients that were asked have this round's views, all others none."""
        kept = {
            client: missed for client, missed in self._missed.items() if client not in self._asked
        }
        self._missed = kept | dict.fromkeys(accepted, 0)

    def _worth(self, changes: list[Records]) -> list[Records]:
        """Returns the latest changes that are fewer bytes than the views, this round's anyway."""
        views = sum(tensor.nbytes for view in self.views.values() for tensor in view.values())
        sizes = [payload_bytes(RecordDict({**codes})) for codes in changes]
        kept = 1
        while kept < len(changes) and sum(sizes[-kept - 1 :]) < views:
            kept += 1
        return changes[-kept:]

    def state(self) -> dict[str, Any]:
        """Returns what :meth:`restore` needs, as tensors and plain values."""
        changes = [
            {name: dict(code.to_torch_state_dict()) for name, code in codes.items()}
            for codes in self._changes
        ]
        return {"views": self.views, "changes": changes, "missed": self._missed}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to where :meth:`state` was taken."""
        self.views, self._missed = dict(state["views"]), dict(state["missed"])
        self._changes = [
            {name: pack_tensors(code) for name, code in codes.items()} for codes in state["changes"]
        ]

    def _moved(self, name: str, record: ArrayRecord) -> ArrayRecord:
        """Returns weights that were trained from the view as if from the server's own.

        Raises:
            BadUploadError: If they are of other names, shapes or types, or out of range.
        """
        check_weights(record, self.dense[name])
        own, view = dict(self.dense[name].to_torch_state_dict()), self.views[name]
        trained = record.to_torch_state_dict()
        return pack_tensors({n: trained[n] + (own[n] - view[n]) for n in own})


def first_view(name: str, world: World) -> dict[str, Tensor]:
    """Returns what all know before the first message: the first network; zeros of all else."""
    weights = pack_weights(world.first_network()).to_torch_state_dict()
    return {n: w if name == MODEL else torch.zeros_like(w) for n, w in weights.items()}


def _aged(name: str, age: int) -> str:
    """Returns the name of a record's change, so many rounds ago."""
    return f"{name}{CHANGE}-{age}" if age else name + CHANGE


def _by_age(records: Records, name: str) -> list[str]:
    """Returns the names of a record's changes, the oldest first."""
    start = name + CHANGE
    ages = {n: int(n[len(start) + 1 :] or 0) for n in records if n.startswith(start)}
    return sorted(ages, key=lambda change: -ages[change])


def _flat(tensors: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def _sizes(tensors: Mapping[str, Tensor]) -> list[int]:
    return [tensor.numel() for tensor in tensors.values()]


def _plus(tensors: Mapping[str, Tensor], change: Tensor) -> dict[str, Tensor]:
    parts = torch.split(change, _sizes(tensors))
    return {n: t + part.view_as(t) for (n, t), part in zip(tensors.items(), parts, strict=True)}
