r"""What a continual run is judged by: functions of its accuracy matrix.

:math:`R_{ij}`, with i and j in 0, ..., E - 1, is the accuracy on the test images of
experience j after training on experience i, in [0, 1]; E is the number of experiences.
Every mean gives experiences equal weight, whatever their sizes. Sums are in float64.

References:
    | Gradient Episodic Memory for Continual Learning (Lopez-Paz and Ranzato, NeurIPS 2017)
    | https://arxiv.org/abs/1706.08840
    | Riemannian Walk for Incremental Learning (Chaudhry, Dokania, Ajanthan and Torr, ECCV 2018)
    | https://arxiv.org/abs/1801.10112
    | iCaRL: Incremental Classifier and Representation Learning (Rebuffi, Kolesnikov, Sperl and
      Lampert, CVPR 2017)
    | https://arxiv.org/abs/1611.07725
    | Learning to Learn without Forgetting by Maximizing Transfer and Minimizing Interference
      (Riemer, Cases, Ajemian, Liu, Rish, Tu and Tesauro, ICLR 2019)
    | https://arxiv.org/abs/1810.11910

Differences from the papers: the three means over E - 1 experiences are 0 when E is 1.
iCaRL measures one accuracy over all seen classes at once; it equals the mean here
where experiences have equally many test images. Chaudhry et al. tell the intransigence
of each experience; here it is their mean.
"""

from torch import Tensor


def average_accuracy(accuracies: Tensor) -> float:
    r"""Returns :math:`\frac1E \sum_j R_{E-1,j}`, the mean accuracy at the end, in [0, 1].

    Args:
        accuracies: R, ``(E, E)``.

    Raises:
        ValueError: If R is not square, or leaves [0, 1].

    Source: ACC of Lopez-Paz and Ranzato (2017).
    """
    return _matrix(accuracies)[-1].mean().item()


def average_incremental_accuracy(accuracies: Tensor) -> float:
    r"""Returns :math:`\frac1E \sum_i \frac1{i+1} \sum_{j \le i} R_{ij}`, in [0, 1].

    The mean, over the whole stream and its first experience too, of the accuracy on
    what has been seen so far.

    Args:
        accuracies: R, ``(E, E)``.

    Raises:
        ValueError: If R is not square, or leaves [0, 1].

    Source: average incremental accuracy of Rebuffi et al. (2017).
    """
    R = _matrix(accuracies)
    seen = [R[i, : i + 1].mean().item() for i in range(len(R))]
    return sum(seen) / len(seen)


def average_forgetting(accuracies: Tensor) -> float:
    r"""Returns :math:`\frac1{E-1} \sum_{j<E-1} (\max_{j \le l \le E-2} R_{lj} - R_{E-1,j})`.

    In [-1, 1]; negative when the last experience helped the earlier ones. The best is
    sought before the last experience and not before j was trained on.

    Args:
        accuracies: R, ``(E, E)``.

    Raises:
        ValueError: If R is not square, or leaves [0, 1].

    Source: forgetting of Chaudhry et al. (2018).
    """
    R = _matrix(accuracies)
    lost = [(R[j:-1, j].max() - R[-1, j]).item() for j in range(len(R) - 1)]
    return sum(lost) / max(len(lost), 1)


def backward_transfer(accuracies: Tensor) -> float:
    r"""Returns :math:`\frac1{E-1} \sum_{j<E-1} (R_{E-1,j} - R_{jj})`, in [-1, 1].

    Args:
        accuracies: R, ``(E, E)``.

    Raises:
        ValueError: If R is not square, or leaves [0, 1].

    Source: BWT of Lopez-Paz and Ranzato (2017).
    """
    R = _matrix(accuracies)
    return _mean_or_zero(R[-1, :-1] - R.diagonal()[:-1])


def forward_transfer(accuracies: Tensor, untrained: Tensor) -> float:
    r"""Returns :math:`\frac1{E-1} \sum_{j \ge 1} (R_{j-1,j} - b_j)`, in [-1, 1].

    In class-incremental streams unseen classes are never predicted, so that it says little.

    Args:
        accuracies: R, ``(E, E)``.
        untrained: b, the accuracies of the network before any training, ``(E,)``.

    Raises:
        ValueError: If R is not square, b differs in length, or one leaves [0, 1].

    Source: FWT of Lopez-Paz and Ranzato (2017).
    """
    R = _matrix(accuracies)
    _check_vector("untrained", untrained, R)
    return _mean_or_zero(R.diagonal(offset=1) - untrained.to(R)[1:])


def learning_accuracy(accuracies: Tensor) -> float:
    r"""Returns :math:`\frac1E \sum_j R_{jj}`, how well new experiences are learnt, in [0, 1].

    Args:
        accuracies: R, ``(E, E)``.

    Raises:
        ValueError: If R is not square, or leaves [0, 1].

    Source: LA of Riemer et al. (2019).
    """
    return _matrix(accuracies).diagonal().mean().item()


def intransigence(accuracies: Tensor, reference: Tensor) -> float:
    r"""Returns :math:`\frac1E \sum_k (a^*_k - R_{kk})`, what new experiences lose, in [-1, 1].

    Negative where an experience is learnt better than by the reference.

    Args:
        accuracies: R, ``(E, E)``.
        reference: :math:`a^*`, the accuracy on each experience k of a network that has learnt
            all experiences up to k together, ``(E,)``.

    Raises:
        ValueError: If R is not square, the reference differs in length, or one leaves [0, 1].

    Source: intransigence of Chaudhry et al. (2018).
    """
    R = _matrix(accuracies)
    _check_vector("reference", reference, R)
    return (reference.to(R) - R.diagonal()).mean().item()


def _matrix(accuracies: Tensor) -> Tensor:
    """Returns R in float64, checked."""
    if accuracies.ndim != 2 or accuracies.shape[0] != accuracies.shape[1] or not len(accuracies):
        raise ValueError(
            f"accuracies must be a square matrix (E, E), got shape {tuple(accuracies.shape)}"
        )
    _check_range("accuracies", accuracies)
    return accuracies.double()


def _check_vector(name: str, values: Tensor, R: Tensor) -> None:
    if values.shape != R.shape[:1]:
        raise ValueError(
            f"{name} must have shape ({len(R)},), one accuracy an experience, "
            f"got {tuple(values.shape)}"
        )
    _check_range(name, values)


def _check_range(name: str, values: Tensor) -> None:
    outside = values[~((values >= 0) & (values <= 1))]
    if len(outside):
        raise ValueError(f"{name} must be in [0, 1], got {outside[0].item()}")


def _mean_or_zero(differences: Tensor) -> float:
    return differences.mean().item() if len(differences) else 0.0
