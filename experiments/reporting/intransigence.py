"""Intransigence: how much worse experiences are learned than by what has all data so far."""

from experiments.reporting.arms import Arm
from experiments.reporting.runs import Array, Run
from experiments.reporting.sections import Section
from fedcl.statistics import Interval, mean_interval


def intransigence(section: Section, arm: Arm) -> Interval | None:
    """Returns an arm's intransigence over the seeds that it shares with its reference.

    The reference is an upper bound of the section under the same conditions: one that learns
    experience after experience or else one whose single network stands for those of all. None
    without such an arm, for itself, and for what has no accuracy after each experience.
    """
    reference = _reference(section, arm)
    if reference is None or reference is arm:
        return None
    best = {run.seed: _best(run) for run in reference.runs}
    pairs = [(run.matrix("accuracy_matrix"), best.get(run.seed)) for run in arm.runs]
    values = [
        _of(matrix, row)
        for matrix, row in pairs
        if matrix is not None and row is not None and matrix.shape == (len(row), len(row))
    ]
    return mean_interval(values) if values else None


def _reference(section: Section, arm: Arm) -> Arm | None:
    """Of several, that of most networks, then of most settings in common, as of training."""
    upper = [a for a in section.arms if a.bound == "upper" and a.conditions == arm.conditions]

    def likeness(bound: Arm) -> tuple[int, int]:
        matrix = bound.runs[0].matrix("accuracy_matrix")
        networks = 0 if matrix is None else len(matrix)
        return networks, len(bound.settings.items() & arm.settings.items())

    return max(upper, key=likeness, default=None)


def _best(run: Run) -> Array | None:
    matrix = run.matrix("accuracy_matrix")
    if matrix is None:
        return None
    return matrix[0] if len(matrix) == 1 else matrix.diagonal()


def _of(matrix: Array, best: Array) -> float:
    import torch  # seconds of import, which other reports do without

    from fedcl import metrics

    return metrics.intransigence(torch.tensor(matrix), torch.tensor(best))
