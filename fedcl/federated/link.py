r"""A link model: what a round's bytes and images cost in simulated seconds.

With :math:`b_k` bytes to client k and :math:`b_k'` back, :math:`n_k` images, d and u bits a
second down and up, latency :math:`\ell` of a message, c seconds of work for each image in a
round, and :math:`s_k` the slowdown of a straggler and 1 of others, client k answers after

.. math:: t_k = s_k \Big( \frac{8 b_k}{d} + \frac{8 b_k'}{u} + 2 \ell + c\, n_k \Big)

seconds. Clients work side by side, so that a round takes the largest :math:`t_k`. With a deadline
D, an answer of :math:`t_k > D` is a counted failure, and a round that somebody dropped out of or
was late for takes D, as a server can't know that an answer won't come; without one it is taken
to know. Who is late has worked and sent all the same: its state has changed, its bytes count.

Work is modelled and not measured, so that no machine decides who is late; measured seconds stand
in the record beside. Bytes are those of the messages, whose metadata are up to a hundred bytes
longer on back ends with random ids, 0.8 ms at 1 Mbit/s. The server's own time is left out.

References:
    | Client Selection for Federated Learning with Heterogeneous Resources in Mobile Edge
      (FedCS; Nishio and Yonetani, ICC 2019), https://arxiv.org/abs/1804.08333: a deadline, and
      times to update and upload

Differences from the paper: no client is left out beforehand for its expected time, uploads share
no channel, and links don't vary from round to round.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from distill.checks import at_least, fraction, positive
from distill.rng import derive
from fedcl.federated.availability import drawn
from fedcl.federated.grid import Exchange
from fedcl.wire import BadUploadError


@final
@dataclass(frozen=True)
class Link:
    """The links of all clients, and how fast they work.

    Attributes:
        up: Bits a second from a client, u > 0.
        down: Bits a second to a client, d > 0.
        latency: Seconds of a message on its way, in either direction, >= 0.
        seconds_per_image: c, seconds of a client's work in a round for each of its images, all
            epochs together, >= 0.
        stragglers: Share of the clients that are slow, to the nearest client, in [0, 1].
        slowdown: How many times as long everything takes a straggler, >= 1.
        deadline: D, seconds after which answers are too late, > 0; None: all are waited for.
    """

    up: float
    down: float
    latency: float
    seconds_per_image: float
    stragglers: float
    slowdown: float
    deadline: float | None

    def __post_init__(self) -> None:
        positive("link.up", self.up)
        positive("link.down", self.down)
        at_least("link.latency", self.latency, 0)
        at_least("link.seconds_per_image", self.seconds_per_image, 0)
        fraction("link.stragglers", self.stragglers)
        at_least("link.slowdown", self.slowdown, 1)
        if self.deadline is not None:
            positive("link.deadline", self.deadline)

    def slow(self, clients: int, seed: int) -> list[int]:
        """Returns the stragglers, ascending."""
        return drawn(range(clients), round(self.stragglers * clients), derive(seed, "stragglers"))

    def seconds(self, exchange: Exchange, images: int, slow: bool) -> float | None:
        """Returns :math:`t_k`; None where no answer came.

        Args:
            exchange: The client's messages in the round.
            images: How many it has.
            slow: Whether it is a straggler.
        """
        if not exchange.bytes_up:
            return None
        way = 8 * exchange.bytes_down / self.down + 8 * exchange.bytes_up / self.up
        one = way + 2 * self.latency + self.seconds_per_image * images
        return self.slowdown * one if slow else one

    def check(self, seconds: float | None) -> None:
        """Refuses an answer that came too late.

        Raises:
            BadUploadError: If it came after the deadline.
        """
        if self.late(seconds):
            raise BadUploadError(
                f"answers must come within {self.deadline:g} s, got one after {seconds:.4g} s"
            )

    def late(self, seconds: float | None) -> bool:
        """Whether an answer came after the deadline, or never."""
        return self.deadline is not None and (seconds is None or seconds > self.deadline)

    def of_round(self, seconds: Sequence[float | None]) -> float:
        """Returns the seconds of a round from those of its clients."""
        if self.deadline is not None and any(map(self.late, seconds)):
            return float(self.deadline)
        return max((x for x in seconds if x is not None), default=0.0)
