"""What a distillation run scores besides the set itself: its stored forms, other networks."""

import csv
import json

import pytest

from distill.synthetic import SyntheticSet
from experiments.build import plan
from experiments.cli import main
from experiments.errors import CommandError
from experiments.report import write_report
from experiments.run import run

WORDS = "method=dm method.iterations=3 ipc=2 evaluation.networks=1 evaluation.recipe.epochs=4"


def metrics_of(tmp_path, words: str) -> dict:
    folder = run("distillation", [*words.split(), "threads=1", f"output={tmp_path}"], "test")
    return json.loads((folder / "record.json").read_text())["metrics"]


def test_a_network_across_scores_as_it_does_alone(tmp_path):
    across = metrics_of(tmp_path, f"{WORDS} network=mlp distiller=mlp across=narrow")["across"]
    alone = metrics_of(tmp_path, f"{WORDS} network=lenet distiller=mlp")
    assert sorted(across) == ["alexnet", "lenet", "mlp", "resnet18", "vgg11", "vit"]
    assert across["lenet"] == alone["accuracy"]


def test_stores_score_the_set_as_it_is_read_back(tmp_path, monkeypatch):
    read = list[str]()
    stored = SyntheticSet.stored
    monkeypatch.setattr(
        SyntheticSet, "stored", lambda self, store: read.append(store) or stored(self, store)
    )
    found = metrics_of(tmp_path, f"{WORDS} network=mlp stores=[uint8,float16]")
    assert read == ["uint8", "float16"]
    assert {"uint8_accuracy", "float16_accuracy"} <= set(found)


def test_a_coarse_store_is_scored_as_coarse(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.scenarios.distillation.SyntheticSet.stored", _blank)
    found = metrics_of(tmp_path, f"{WORDS} network=mlp stores=[uint8]")
    assert found["uint8_accuracy"] != found["accuracy"]


def _blank(small: SyntheticSet, _store: str) -> SyntheticSet:
    small.data.images.zero_()
    return small


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("evaluation=fast evaluation.recipe.epochs=1", 1),
        ("evaluation=fast evaluation.recipe.epochs=1 labels=hard", 0),
        ("evaluation=frepo evaluation.updates=1", 0),
    ],
)
def test_learned_labels_that_an_evaluation_cannot_use_are_told(tmp_path, caplog, words, said):
    small = "method=frepo distiller=mlp network=mlp ipc=1 method.iterations=1"
    metrics_of(tmp_path, f"{small} evaluation.networks=1 random=false {words}")
    told = [text for text in caplog.messages if "take evaluation=frepo, or labels=hard" in text]
    assert len(told) == said


def test_an_unknown_store_is_refused():
    with pytest.raises(CommandError, match="unknown store 'int4'; known: float16"):
        plan("distillation", ["method=random", "stores=[int4]"])


def test_a_network_across_that_cannot_take_the_images_is_refused_before_anything_runs(tmp_path):
    deep = (
        "+across.deep._target_=distill.networks.ConvNet +across.deep.width=4 +across.deep.depth=5"
    )
    assert main(f"distill method=random {deep} output={tmp_path}".split()) == 2
    assert not list(tmp_path.rglob("record.json"))


def test_the_report_has_a_column_for_each_network(tmp_path):
    metrics_of(tmp_path / "runs", f"{WORDS} network=mlp across=narrow")
    write_report([tmp_path / "runs"], tmp_path / "report")
    table = (tmp_path / "report/tables/distillation-digits-across.csv").read_text()
    names = [name for name in table.splitlines()[0].split(",") if not name.endswith("half_width")]
    across = ["alexnet", "lenet", "mlp", "resnet18", "vgg11", "vit"]
    assert names == ["arm", "seeds", "accuracy", *(f"across.{name}" for name in across)]


def test_the_gain_over_random_images_comes_from_their_own_arm_where_no_run_has_it(tmp_path):
    few = "ipc=2 network=mlp evaluation.networks=1 evaluation.recipe.epochs=4 random=false"
    small = metrics_of(tmp_path / "runs", f"method=kmeans {few}")
    random = metrics_of(tmp_path / "runs", f"method=random {few}")
    assert "random_accuracy" not in small
    write_report([tmp_path / "runs"], tmp_path / "report")
    rows = csv.DictReader((tmp_path / "report/tables/distillation-digits-summary.csv").open())
    gains = {row["arm"]: row["gain"] for row in rows}
    assert gains["random"] == ""
    assert float(gains["kmeans"]) == pytest.approx(small["accuracy"] - random["accuracy"])
