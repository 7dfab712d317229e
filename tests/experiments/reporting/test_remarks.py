"""What a method's YAML says of how reports show it."""

import pytest

from experiments.errors import CommandError
from experiments.reporting import remarks as module
from experiments.reporting.remarks import Remark, remarks
from experiments.reporting.styles import Palette


@pytest.fixture
def yaml(tmp_path, monkeypatch):
    """Returns a writer of the head of ``configs/method/mine.yaml`` in a folder of its own."""
    (tmp_path / "method").mkdir()
    monkeypatch.setattr(module, "config_folder", lambda: tmp_path)

    def write(head):
        (tmp_path / "method" / "mine.yaml").write_text(f"# mine: an idea\n{head}\n_target_: a.B\n")
        remarks.cache_clear()

    yield write
    remarks.cache_clear()


def test_a_remark_gives_a_method_its_look_and_makes_it_a_bound(yaml):
    yaml("# in reports: sky P dashed, upper bound")
    assert remarks("method") == {"mine": Remark("sky", "P", "dashed", "upper")}
    assert Palette.of([]).styles["mine"].joined()["marker"] == "P"
    assert Palette.of([]).styles["mine"].joined()["linestyle"] == "--"


def test_without_a_remark_a_method_is_a_rival_of_the_next_free_look(yaml):
    yaml("# more of it")
    assert remarks("method") == {} == remarks("no such group")
    assert "mine" in Palette.of(["mine"]).styles


@pytest.mark.parametrize("head", ["sky", "sky P dashed, bound", "pink P dashed", "sky ~ dashed"])
def test_a_remark_that_cannot_be_read_says_whose_it_is(yaml, head):
    yaml(f"# in reports: {head}")
    with pytest.raises(CommandError, match="'in reports' of method=mine"):
        Palette.of([])


def test_what_keeps_nothing_or_has_everything_is_a_bound_of_its_scenario():
    bounds = {name: remark.bound for name, remark in remarks("continual").items()}
    assert bounds == {"naive": "lower", "joint": "upper", "cumulative": "upper"}
    assert remarks("federated_continual")["fedavg"].bound == "lower"
    assert not remarks("federated")["fedavg"].bound
