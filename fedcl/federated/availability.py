r"""Who is there: clients that join late, and clients that drop out of a round.

In round r the server asks a share of the clients that have joined: all of them from round j on,
before it all but the late ones, a share of the federation that is drawn once. An asked client
drops out of the round with probability p, on its own.

Who drops out is drawn at the server, from a stream of client and round, and its message is
counted and not delivered. So on every back end the same clients drop out, and what they keep
stays as it was; an answer that only were ignored would have changed it, and an error that a
client raised would be bytes of an answer that nobody sent.

References:
    | Towards Federated Learning at Scale: System Design (Bonawitz et al., MLSys 2019)
    | https://arxiv.org/abs/1902.01046: devices that drop out of a round

Differences from the paper: there devices drop out in the middle of a round, too, and fewer of
them at night.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from distill.checks import below_one, fraction, whole
from distill.rng import derive


@final
@dataclass(frozen=True)
class Availability:
    """Which clients can be asked, and which of them never answer.

    Attributes:
        dropout: Probability p that an asked client drops out of a round, in [0, 1).
        late: Share of the clients that join late, to the nearest client, in [0, 1].
        joins: Round j from which those are there, >= 1.
    """

    dropout: float
    late: float
    joins: int

    def __post_init__(self) -> None:
        below_one("availability.dropout", self.dropout)
        fraction("availability.late", self.late)
        whole("availability.joins", self.joins, 1)

    def check(self, clients: int) -> None:
        """Refuses a federation of late clients alone.

        Raises:
            ValueError: If nobody is there in round 1.
        """
        if not self.joined(clients, 1, 0):
            raise ValueError(
                f"availability.late must leave a client for round 1, got {self.late} of "
                f"{clients} clients; lower it, or take availability.joins=1"
            )

    def late_joiners(self, clients: int, seed: int) -> list[int]:
        """Returns the clients that aren't there before round j, ascending; none if j is 1."""
        count = round(self.late * clients) if self.joins > 1 else 0
        return drawn(range(clients), count, derive(seed, "late joiners"))

    def joined(self, clients: int, number: int, seed: int) -> list[int]:
        """Returns the clients that are there in round ``number``, ascending."""
        absent = self.late_joiners(clients, seed) if number < self.joins else []
        return [client for client in range(clients) if client not in absent]

    def drops(self, client: int, number: int, seed: int) -> bool:
        """Whether a client drops out of round ``number``, once it is asked."""
        rng = derive(seed, "dropout", client, "round", number)
        return torch.rand((), generator=rng).item() < self.dropout


ALWAYS = Availability(dropout=0.0, late=0.0, joins=1)


def drawn(clients: Sequence[int], count: int, rng: torch.Generator) -> list[int]:
    """Returns so many of the clients, ascending; a larger count adds to those of a smaller one."""
    order = torch.randperm(len(clients), generator=rng)[:count].tolist()
    return sorted(clients[index] for index in order)
