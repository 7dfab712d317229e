r"""Blocks, a client's images of one class, as means of vectors that can be told apart fairly.

With :math:`\mu_{kc}` the mean vector of client k's :math:`n_{kc}` images of class c,
:math:`m_c` the median over clients, coordinate by coordinate, :math:`\tilde n_c` that of their
numbers, and :math:`s_c^2` the median over clients of the summed variance of their vectors,

.. math:: r_{kc} = \frac{\|\mu_{kc} - m_c\|}{s_c \sqrt{1 / n_{kc} + 1 / \tilde n_c}}

is about 1 for honest blocks, whatever the class and however few images there are: a client
with a single image of a class lies far from the others' mean and must. All blocks of a round
share the scale

.. math:: z_{kc} = \frac{r_{kc} - \mathrm{median}\, r}{1.4826 \; \mathrm{median}\,
    |r - \mathrm{median}\, r|} .

A class of fewer than three clients has no others to compare with and is not judged: neither
are its honest clients set aside, nor is an attack on it seen.

References:
    | How to Detect and Handle Outliers (Iglewicz and Hoaglin, 1993): scores by the median
      absolute deviation
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.images import LabelledImages

Represent = Callable[[Tensor, int], Tensor]  # images of a class, and it, to a vector an image
Sets = Mapping[int, LabelledImages]
JUDGED_FROM = 3  # clients that have a class
CONSISTENT = 1.4826  # median absolute deviations in a normal distribution's standard deviation


@final
@dataclass(frozen=True)
class Blocks:
    """All clients' blocks of one class.

    Attributes:
        label: The class.
        clients: Those that have it, ascending.
        means: Their mean vectors, ``(K, D)``.
        counts: Their images, float, ``(K,)``.
        variance: The median over clients of their vectors' summed variance, > 0.
    """

    label: int
    clients: list[int]
    means: Tensor
    counts: Tensor
    variance: Tensor


def blocks(sets: Sets, represent: Represent) -> Iterator[Blocks]:
    """Yields the blocks of each class of which some client has images that differ.

    Args:
        sets: Small sets by client, normalised.
        represent: Turns images into vectors.
    """
    num_classes = next(iter(sets.values())).num_classes
    for label in range(num_classes):
        clients = [client for client in sorted(sets) if (sets[client].labels == label).any()]
        vectors = [represent(sets[client].of_class(label), label) for client in clients]
        spreads = [v.var(0).sum() for v in vectors if len(v) > 1]
        if spreads and (variance := torch.stack(spreads).median()) > 0:
            means = torch.stack([v.mean(0) for v in vectors])
            counts = means.new_tensor([float(len(v)) for v in vectors])
            yield Blocks(label, clients, means, counts, variance)


def deviations(sets: Sets, represent: Represent) -> dict[tuple[int, int], float]:
    """Returns :math:`r_{kc}` by client and class, for classes of three clients or more."""
    found: dict[tuple[int, int], float] = {}
    for block in blocks(sets, represent):
        if len(block.clients) >= JUDGED_FROM:
            gaps = (block.means - block.means.median(0).values).norm(dim=1)
            fair = (block.variance * (1 / block.counts + 1 / block.counts.median())).sqrt()
            keys = [(client, block.label) for client in block.clients]
            found |= dict(zip(keys, (gaps / fair).tolist(), strict=True))
    return found


def standing_out(values: Tensor) -> Tensor:
    """Returns how many robust standard deviations each value lies above the median.

    >>> standing_out(torch.tensor([1.0, 2.0, 3.0, 4.0, 100.0])).round(decimals=2)
    tensor([-1.3500, -0.6700,  0.0000,  0.6700, 65.4300])
    """
    gaps = values - values.median()
    return gaps / (CONSISTENT * gaps.abs().median())


def outlying(sets: Sets, represent: Represent, threshold: float) -> dict[int, str]:
    """Returns the clients with a block that stands out by more than a threshold, and which."""
    found = deviations(sets, represent)
    scores = standing_out(torch.tensor(list(found.values()))).tolist() if found else []
    worst: dict[int, tuple[float, int]] = {}
    for (client, label), score in zip(found, scores, strict=True):
        worst[client] = max(worst.get(client, (score, label)), (score, label))
    return {
        client: f"class {label} lies {score:.1f} deviations off the others', more than {threshold}"
        for client, (score, label) in worst.items()
        if score > threshold
    }
