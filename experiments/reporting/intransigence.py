"""Intransigence: how much worse experiences are learned than by what has all data so far."""

from experiments.reporting.arms import Arm
from experiments.reporting.runs import Array, Run
from experiments.reporting.sections import Section
from fedcl.statistics import Interval, mean_interval

_REFERENCES = ("cumulative", "joint")  # the latter only where there is none of the former


def intransigence(section: Section, arm: Arm) -> Interval | None:
    """Returns an arm's intransigence over the seeds that it shares with its reference.

    The reference is the cumulative arm of the section under the same conditions or else the
    joint one, whose single network stands for those of all experiences. None without such an
    arm, for itself, and for what has no accuracy after each experience.
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
    """The reference that has most settings in common, as where arms differ in their training."""
    for name in _REFERENCES:
        able = [a for a in section.arms if a.name == name and a.conditions == arm.conditions]
        if able:
            return max(able, key=lambda a: len(a.settings.items() & arm.settings.items()))
    return None


def _best(run: Run) -> Array | None:
    matrix = run.matrix("accuracy_matrix")
    if matrix is None:
        return None
    return matrix[0] if len(matrix) == 1 else matrix.diagonal()


def _of(matrix: Array, best: Array) -> float:
    import torch  # seconds of import, which other reports do without

    from fedcl import metrics

    return metrics.intransigence(torch.tensor(matrix), torch.tensor(best))
