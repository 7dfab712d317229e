"""A record is read, or refused for what is wrong with it; what follows from its numbers."""

import json
from pathlib import Path

import pytest

from experiments.errors import CommandError
from experiments.reporting.runs import Run


def write(folder: Path, text: str) -> Path:
    (folder / "record.json").write_text(text, encoding="utf-8")
    return folder


def test_a_record_is_read(tmp_path):
    whole = {"status": "completed", "seed": 0, "config": {}, "threads": 1}
    record = {"schema": 1, "scenario": "continual", "name": "naive", **whole}
    assert Run.read(write(tmp_path, json.dumps(record))).name == "naive"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "must be JSON"),
        ("[]", "must be a record of schema 1"),
        ('{"schema": 2}', "must be a record of schema 1"),
        ('{"schema": 1, "scenario": "continual", "seed": 0}', "lacks name, status, "),
        ('{"schema": 1, "scenario": "cooking"}', "unknown scenario 'cooking' .*; known: continual"),
    ],
)
def test_a_malformed_record_is_refused(tmp_path, text, match):
    with pytest.raises(CommandError, match=match):
        Run.read(write(tmp_path, text))


def test_what_follows_from_recorded_numbers_is_a_metric_too(run):
    metrics = {"bytes_up": 30, "bytes_down": 20, "raw_bytes": 200, "accuracy": 0.75}
    found = run(metrics=metrics | {"random_accuracy": 0.5}).metrics
    assert (found["bytes_total"], found["raw_ratio"], found["gain"]) == (50, 0.25, 0.25)
    assert "stored_share" not in found
