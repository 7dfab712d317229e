r"""Which client holds which training images, as lists of indices.

Every image belongs to exactly one client, and every client holds at least one image.

References:
    | Communication-Efficient Learning of Deep Networks from Decentralized Data
      (McMahan, Moore, Ramage, Hampson and Aguera y Arcas, AISTATS 2017),
      https://arxiv.org/abs/1602.05629: iid and shards
    | Bayesian Nonparametric Federated Learning of Neural Networks (Yurochkin, Agarwal, Ghosh,
      Greenewald, Hoang and Khazaeni, ICML 2019), https://arxiv.org/abs/1905.12022: Dirichlet
    | Federated Learning on Non-IID Data Silos: An Experimental Study (Li, Diao, Chen and He,
      ICDE 2022), https://arxiv.org/abs/2102.02079 (NIID-Bench): Dirichlet, k classes a
      client, and quantity

Differences from the papers:
    - Dirichlet without the released code's rules that close a client once it holds N / K
      images and redraw everything until each holds ten: the first changes the
      distribution, the second may never end. A client left empty gets one image instead.
    - Quantity without the latter rule, for the same reason, and with cuts that are rounded
      rather than cut off.
    - Classes per client deals the classes that have fewest owners, so that none is left
      without one; NIID-Bench draws them independently and drops unowned images.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import positive, whole


class Partition(ABC):
    """A way to divide images among clients. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def split(
        self, labels: Tensor, num_classes: int, clients: int, rng: torch.Generator
    ) -> list[Tensor]:
        """Returns each client's images as ascending int64 indices into ``labels``.

        Args:
            labels: Class of each image, int64 in [0, num_classes), ``(N,)``.
            num_classes: Classes of the task.
            clients: Number of clients, in [1, N].
            rng: Draws the division.

        Raises:
            TypeError: If ``clients`` is not an int.
            ValueError: If the labels are malformed, or there are more clients than images.
        """


@final
@dataclass(frozen=True)
class Iid(Partition):
    """A random permutation cut into pieces whose sizes differ by one image at most."""

    def split(
        self, labels: Tensor, num_classes: int, clients: int, rng: torch.Generator
    ) -> list[Tensor]:
        """Returns the pieces, ascending; see :meth:`Partition.split`."""
        _check(labels, num_classes, clients)
        return _ascending(torch.randperm(len(labels), generator=rng).tensor_split(clients))


@final
@dataclass(frozen=True)
class Dirichlet(Partition):
    r"""Label skew: :math:`p_c \sim \mathrm{Dir}_K(\alpha)` divides class c among K clients.

    The variant is that of Yurochkin et al. and NIID-Bench, one draw for each *class* and
    over the clients, without NIID-Bench's size cap, so that clients also differ in size.

    Attributes:
        alpha: Concentration, > 0. Towards 0 each class has a single client; towards
            infinity the clients become alike.
    """

    alpha: float

    def __post_init__(self) -> None:
        _check_concentration(self.alpha)

    def split(
        self, labels: Tensor, num_classes: int, clients: int, rng: torch.Generator
    ) -> list[Tensor]:
        """Returns the clients' images, ascending; see :meth:`Partition.split`."""
        _check(labels, num_classes, clients)
        owner = torch.empty_like(labels)
        for label in range(num_classes):
            rows = _shuffled((labels == label).nonzero().squeeze(1), rng)
            ends = (_dirichlet(self.alpha, clients, rng).cumsum(0) * len(rows)).round()
            place = torch.arange(len(rows), dtype=torch.float64)
            owner[rows] = torch.searchsorted(ends, place, right=True)
        return _none_empty([(owner == k).nonzero().squeeze(1) for k in range(clients)], rng)


@final
@dataclass(frozen=True)
class Quantity(Partition):
    r"""Quantity skew: :math:`p \sim \mathrm{Dir}_K(\alpha)` divides a random permutation.

    Clients differ in size alone: whatever its size, a client's images are drawn without
    regard to their classes.

    Attributes:
        alpha: Concentration, > 0. Towards 0 one client has nearly everything; towards
            infinity the clients become equally large.
    """

    alpha: float

    def __post_init__(self) -> None:
        _check_concentration(self.alpha)

    def split(
        self, labels: Tensor, num_classes: int, clients: int, rng: torch.Generator
    ) -> list[Tensor]:
        """Returns the clients' images, ascending; see :meth:`Partition.split`."""
        _check(labels, num_classes, clients)
        rows = _shuffled(torch.arange(len(labels)), rng)
        cuts = (_dirichlet(self.alpha, clients, rng).cumsum(0) * len(rows)).round().long()
        return _none_empty(rows.tensor_split(cuts[:-1]), rng)


@final
@dataclass(frozen=True)
class Shards(Partition):
    """Images sorted by class and cut into equal shards; each client gets some at random.

    Attributes:
        shards_per_client: Shards that each client gets, >= 1; McMahan et al. take 2.
    """

    shards_per_client: int

    def __post_init__(self) -> None:
        whole("partition.shards_per_client", self.shards_per_client, 1)

    def split(
        self, labels: Tensor, num_classes: int, clients: int, rng: torch.Generator
    ) -> list[Tensor]:
        """Returns the clients' images, ascending; see :meth:`Partition.split`.

        Raises:
            ValueError: Also if there are more shards than images.
        """
        _check(labels, num_classes, clients)
        count = clients * self.shards_per_client
        if count > len(labels):
            raise ValueError(
                f"clients * partition.shards_per_client must be <= {len(labels)}, "
                f"the number of images, got {count}"
            )
        rows = _shuffled(torch.arange(len(labels)), rng)
        shards = rows[labels[rows].argsort(stable=True)].tensor_split(count)
        dealt = torch.randperm(count, generator=rng).view(clients, -1)
        return _ascending([torch.cat([shards[i] for i in hand]) for hand in dealt.tolist()])


@final
@dataclass(frozen=True)
class ClassesPerClient(Partition):
    """Each client holds images of k classes; a class is divided evenly among its owners.

    Client by client, the k classes with the fewest owners so far are dealt, ties at
    random: owners of two classes differ by one at most, and every class has an owner.

    Attributes:
        classes: Classes of each client (k), >= 1.
    """

    classes: int

    def __post_init__(self) -> None:
        whole("partition.classes", self.classes, 1)

    def split(
        self, labels: Tensor, num_classes: int, clients: int, rng: torch.Generator
    ) -> list[Tensor]:
        """Returns the clients' images, ascending; see :meth:`Partition.split`.

        A class with fewer images than owners reaches only some of them; a client left
        with nothing gets one image of the largest client.

        Raises:
            ValueError: Also if k exceeds the classes that have images, or the clients
                together cannot own all of those.
        """
        _check(labels, num_classes, clients)
        present = labels.bincount().nonzero().squeeze(1)
        self._check_classes(len(present), clients)
        owned = _deal(len(present), clients, self.classes, rng)
        parts: list[list[Tensor]] = [[labels.new_empty(0)] for _ in range(clients)]
        for column, label in enumerate(present.tolist()):
            owners = owned[:, column].nonzero().squeeze(1).tolist()
            rows = _shuffled((labels == label).nonzero().squeeze(1), rng)
            for client, piece in zip(owners, rows.tensor_split(len(owners)), strict=True):
                parts[client].append(piece)
        return _none_empty([torch.cat(pieces) for pieces in parts], rng)

    def _check_classes(self, present: int, clients: int) -> None:
        if self.classes > present:
            raise ValueError(
                f"partition.classes must be <= {present}, the number of classes, got {self.classes}"
            )
        if clients * self.classes < present:
            raise ValueError(
                f"clients * partition.classes must be >= {present}, so that every class has an "
                f"owner, got {clients} * {self.classes}"
            )


def _check(labels: Tensor, num_classes: int, clients: int) -> None:
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise ValueError(
            f"labels must be int64 of shape (N,), got {labels.dtype} of {tuple(labels.shape)}"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"labels must be in [0, {num_classes}), got {labels.min()} to {labels.max()}"
        )
    whole("clients", clients, 1)
    if clients > len(labels):
        raise ValueError(f"clients must be <= {len(labels)}, the number of images, got {clients}")


def _check_concentration(alpha: float) -> None:
    positive("partition.alpha", alpha)
    if math.isinf(alpha):
        raise ValueError("partition.alpha must be finite, got inf; use partition=iid")


def _shuffled(rows: Tensor, rng: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=rng)]


def _ascending(parts: Sequence[Tensor]) -> list[Tensor]:
    return [rows.sort().values for rows in parts]


def _dirichlet(alpha: float, size: int, rng: torch.Generator) -> Tensor:
    """Returns one draw of the symmetric Dirichlet, float64, ``(size,)``.

    In logarithms, by log G(a) = log G(a + 1) + log(U) / a (Marsaglia and Tsang 2000):
    the Gamma draws themselves underflow to 0 / 0 when alpha is small.
    """
    shape = torch.full((size,), alpha + 1, dtype=torch.float64)
    gamma = torch._standard_gamma(shape, generator=rng)
    uniform = 1 - torch.rand(size, generator=rng, dtype=torch.float64)
    return (gamma.log() + uniform.log() / alpha).softmax(0)


def _deal(classes: int, clients: int, k: int, rng: torch.Generator) -> Tensor:
    """Returns who owns which class, bool, ``(clients, classes)``, k classes a client."""
    owned = torch.zeros(clients, classes, dtype=torch.bool)
    for client in range(clients):
        # A uniform draw below 1 breaks ties between numbers of owners.
        order = owned.sum(0) + torch.rand(classes, generator=rng, dtype=torch.float64)
        owned[client, order.argsort()[:k]] = True
    return owned


def _none_empty(parts: Sequence[Tensor], rng: torch.Generator) -> list[Tensor]:
    """Returns the parts, ascending, each empty one with an image of the then largest one.

    With at least as many images as parts, the largest has two or more while one is empty.
    """
    filled = list(parts)
    for empty in [k for k, rows in enumerate(parts) if not len(rows)]:
        largest = max(range(len(filled)), key=lambda k: len(filled[k]))
        rows = _shuffled(filled[largest], rng)
        filled[empty], filled[largest] = rows[:1], rows[1:]
    return _ascending(filled)
