"""Which differences between arms of one budget are real: tests on the seeds that they share."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from experiments.reporting.arms import Arm, paired, pairs, shared
from experiments.reporting.sections import Section
from experiments.reporting.tables import Cell, Column, Table
from fedcl.statistics import CONFIDENCE, PairedTest, holm, paired_test, pairs_needed, smallest_p

LEVEL = 1 - CONFIDENCE

Pairs = dict[frozenset[str], tuple[Arm, Arm]]  # by their labels

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
        "other arm that uploads as many bytes, within 2 %."
    ),
    "average_accuracy": (
        "more accuracy and less forgetting are better. The other is the random memory of the same "
        "budget or the best other arm of it."
    ),
}

_BESIDE = (
    "Budgets are those of memories. Some arms keep more beside theirs, such as copies of the "
    "network: the summary's kept bytes."
)


def differences(section: Section) -> Table | None:
    """Returns each arm against random images and the best other arm among its peers.

    The best is picked by the accuracies that are tested, so Holm corrects among all pairs of
    peers, shown or not. None where no two such arms share two seeds: one difference has no
    spread to be judged by.
    """
    shown = _tested(section, _met(section))
    if not shown:
        return None
    measures = _MEASURES[section.headline]
    among = _tested(section, (pair for peers in section.peers for pair in combinations(peers, 2)))
    tests = {
        pair: paired_test(*shared(section.headline, *arms))
        for pair, arms in (among | shown).items()
    }
    students = _corrected([test.student for test in tests.values()])
    flips = _corrected([test.flips for test in tests.values()])
    corrected = dict(zip(tests, zip(students, flips, strict=True), strict=True))
    rows = tuple(
        (
            arm.label,
            other.label,
            float(tests[pair].difference.count),
            *(paired(column.key, arm, other) for column in measures),
            tests[pair].student,
            tests[pair].flips,
            *corrected[pair],
            _verdict(*corrected[pair]),
        )
        for pair, (arm, other) in shown.items()
    )
    notes = [*_notes(list(tests.values()), _READING[section.headline])]
    if any(arm.mean("kept_bytes") for pair in shown.values() for arm in pair):
        notes.append(_BESIDE)
    columns = (*_PAIR, *measures, *_TESTS)
    return Table(
        f"{section.slug}-paired", "Which differences are real", columns, rows, notes=tuple(notes)
    )


def _met(section: Section) -> Iterator[tuple[Arm, Arm]]:
    """Yields each arm with its random rival and with the best of its peers."""
    for peers in section.peers:
        for arm in peers:
            able = (
                other
                for other in peers
                if other is not arm and pairs(section.headline, arm, other) > 1
            )
            others = section.random_rival(arm), next(able, None)
            yield from ((arm, other) for other in others if other)


def _tested(section: Section, met: Iterable[tuple[Arm, Arm]]) -> Pairs:
    """Returns the pairs that share two seeds, each once."""
    found: Pairs = {}
    for arm, other in met:
        if pairs(section.headline, arm, other) > 1:
            found.setdefault(frozenset({arm.label, other.label}), (arm, other))
    return found


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
        "differences, which takes nothing for normal. Holm corrects for all pairs of equal "
        f"budget, {len(tests)}, for the best other arm is picked by the same seeds. Real: both "
        "corrected p are below 0.05; by t alone: only the t-test's."
    )
    most, needed = max(test.difference.count for test in tests), pairs_needed(len(tests))
    if most < needed:
        yield (
            "Fewer than six seeds cannot show p < 0.05 by permutation: with n seeds the smallest p "
            f"is 2 / 2^n, here {smallest_p(most):.3g} with {most}. Corrected, sign flips "
            f"need {needed} seeds."
        )
