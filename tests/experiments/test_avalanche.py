"""A script of Avalanche's needs one import and one line."""

import runpy
from pathlib import Path

import pytest
import torch

from distill.coresets import KMeans
from experiments.avalanche import CondensedBuffer, method
from experiments.errors import CommandError

EXAMPLE = Path(__file__).parents[2] / "examples" / "avalanche_one_line.py"
QUICK = ("dm", "distiller=mlp", "method.iterations=2")


def test_the_example_is_a_stock_script_but_for_an_import_and_a_line():
    lines = EXAMPLE.read_text().splitlines()
    ours = [line.strip() for line in lines if "CondensedBuffer" in line]
    assert ours == [
        "from experiments.avalanche import CondensedBuffer, method",
        "distilled = CondensedBuffer.of(benchmark, method(*words), images=20)  # the line",
    ]
    rest = "\n".join(line for line in lines if line.strip() not in ours)
    assert not any(f"{package}." in rest for package in ("distill", "fedcl", "experiments"))


@pytest.mark.filterwarnings("ignore:No loggers specified")
def test_the_example_prints_both_accuracies(capsys):
    runpy.run_path(str(EXAMPLE))["main"]("kmeans")
    printed = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in printed] == ["random images", "distilled images"]
    assert all(0.6 < float(line[-1]) < 0.9 for line in printed)


def test_distilling_never_shifts_the_random_stream_of_training():
    benchmark = runpy.run_path(str(EXAMPLE))["split_digits"]()
    policy = CondensedBuffer.of(benchmark, method(*QUICK), images=20)
    before = torch.get_rng_state()
    policy.post_adapt(None, benchmark.train_stream[0])
    assert len(policy.buffer) == 20
    assert torch.get_rng_state().equal(before)


def test_a_method_is_what_the_command_line_calls_so():
    assert method("kmeans") == KMeans()
    assert method("dm", "method.iterations=7").iterations == 7


def test_an_unknown_method_is_answered_with_the_known_ones():
    with pytest.raises(CommandError, match=r"unknown method 'nope'; known: .*herding"):
        method("nope")
