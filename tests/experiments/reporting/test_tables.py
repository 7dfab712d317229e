"""A table is written as CSV that parses back and as Markdown that stays a table."""

import csv
import io

from experiments.reporting.tables import Column, Table
from fedcl.statistics import Interval


def test_csv_parses_back_with_unrounded_numbers():
    columns = (Column("arm", "Arm"), Column("accuracy", "Accuracy", "percent"))
    rows = (
        ('a, "b"\nc', Interval(0.123456789, 0.01, 3)),
        ("d", Interval(0.5, None, 1)),
        ("e", None),
    )
    text = Table("t", "T", columns, rows).csv()
    assert list(csv.reader(io.StringIO(text))) == [
        ["arm", "accuracy", "accuracy_half_width"],
        ['a, "b"\nc', "0.123456789", "0.01"],
        ["d", "0.5", ""],
        ["e", "", ""],
    ]


def test_markdown_keeps_one_row_a_line():
    columns = (Column("error", "Error"), Column("seed", "Seed", "count"))
    text = Table("t", "T", columns, (("a|b\nc", 1.0),)).markdown()
    assert "| Error | Seed |\n| --- | ---: |\n| a\\|b c | 1 |" in text
