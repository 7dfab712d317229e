"""Numbers are rounded as readers expect."""

import pytest

from experiments.reporting.numbers import bytes_text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (999.6, "1.00 kB"), (7850, "7.85 kB"), (1_234_567, "1.23 MB")],
)
def test_bytes_are_decimal_with_three_digits(count, text):
    assert bytes_text(count) == text
