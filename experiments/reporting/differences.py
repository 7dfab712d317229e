"""Which differences between arms of one budget are real: tests on the seeds that they share."""

from collections.abc import Iterator, Sequence

from experiments.reporting.arms import Arm, paired, shared
from experiments.reporting.sections import Section
from experiments.reporting.tables import Cell, Column, Table
from fedcl.statistics import CONFIDENCE, PairedTest, holm, paired_test, pairs_needed, smallest_p

LEVEL = 1 - CONFIDENCE

# What is compared, by a section's headline, which comes first and is what the tests are of.
_MEASURES = {
    "accuracy": (
        Column("accuracy", "Accuracy", "points"),
        Column("worst_client_accuracy", "Worst client", "points"),
    ),
    "average_accuracy": (
        Column("average_accuracy", "Average accuracy", "points"),
        Column("average_forgetting", "Forgetting", "points"),
    ),
}
_PAIR = (Column("arm", "Arm"), Column("versus", "Against"), Column("pairs", "Pairs", "count"))
_TESTS = (
    Column("student", "p, t-test", "probability"),
    Column("flips", "p, sign flips", "probability"),
    Column("student_holm", "Holm, t-test", "probability"),
    Column("flips_holm", "Holm, sign flips", "probability"),
    Column("real", "Real"),
)
_READING = {
    "accuracy": (
        "more is better. The other uploads random images, as many of a class, or is the best "
        "other arm that uploads as many bytes, in two digits."
    ),
    "average_accuracy": (
        "more accuracy and less forgetting are better. The other is the random memory of the same "
        "budget or the best other arm of it."
    ),
}


def differences(section: Section) -> Table | None:
    """Returns each arm against random images and the best other arm among its peers.

    None where no two such arms share two seeds: one difference has no spread to be judged by.
    """
    found = list(_found(section))
    if not found:
        return None
    measures = _MEASURES[section.headline]
    students = _corrected([test.student for _, _, test in found])
    flips = _corrected([test.flips for _, _, test in found])
    rows = tuple(
        (
            arm.label,
            other.label,
            float(test.difference.count),
            *(paired(column.key, arm, other) for column in measures),
            test.student,
            test.flips,
            *corrected,
            _verdict(*corrected),
        )
        for (arm, other, test), *corrected in zip(found, students, flips, strict=True)
    )
    notes = tuple(_notes([test for _, _, test in found], _READING[section.headline]))
    columns = (*_PAIR, *measures, *_TESTS)
    return Table(f"{section.slug}-paired", "Which differences are real", columns, rows, notes=notes)


def _found(section: Section) -> Iterator[tuple[Arm, Arm, PairedTest]]:
    """The pairs of arms, none twice, with the test of their accuracies."""
    seen = list[set[str]]()
    for peers in section.peers:
        for arm in peers:
            rivals = (other for other in peers if other is not arm)
            best = next((other for other in rivals if _pairs(section, arm, other) > 1), None)
            for other in (section.random_rival(arm), best):
                if other is None or {arm.label, other.label} in seen:
                    continue
                seen.append({arm.label, other.label})
                if _pairs(section, arm, other) > 1:
                    yield arm, other, paired_test(*shared(section.headline, arm, other))


def _pairs(section: Section, arm: Arm, other: Arm) -> int:
    """How many seeds two arms share."""
    return len(shared(section.headline, arm, other)[0])


def _corrected(values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction among the tests that have a p."""
    known = iter(holm([p for p in values if p is not None]))
    return [None if p is None else next(known) for p in values]


def _verdict(student: float | None, flips: float | None) -> Cell:
    if student is None or student >= LEVEL:
        return "no"
    return "yes" if flips is None or flips < LEVEL else "by t alone"


def _notes(tests: Sequence[PairedTest], reading: str) -> Iterator[str]:
    yield f"Arm minus the other on the same seeds, with the paired 95 % t-interval; {reading}"
    yield (
        "p is the accuracy's: by the paired t-test, and by flipping the signs of the seeds' "
        "differences, which takes nothing for normal. Holm corrects for all rows, "
        f"{len(tests)}. Real: both corrected p are below 0.05; by t alone: only the t-test's."
    )
    pairs, needed = max(test.difference.count for test in tests), pairs_needed(len(tests))
    if pairs < needed:
        yield (
            "Fewer than six seeds cannot show p < 0.05 by permutation: with n seeds the smallest p "
            f"is 2 / 2^n, here {smallest_p(pairs):.3g} with {pairs}. Corrected for all rows, sign "
            f"flips need {needed} seeds."
        )
