"""The report is whole, safe to open anywhere, and says what the records say."""

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from safetensors import SafetensorError

from experiments.errors import CommandError
from experiments.report import report, write_report
from experiments.reporting.prose import outcome
from experiments.reporting.runs import Run, find_runs


@pytest.fixture(scope="module")
def page(report_page) -> str:
    return report_page.read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Collects tags with their attributes, and fails on tags closed in the wrong order."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_report_has_a_page_tables_and_figures(report_page):
    assert report_page.name == "index.html"
    assert {path.name for path in report_page.parent.iterdir()} == {
        "index.html",
        "figures",
        "tables",
    }


def test_every_file_has_something_in_it(report_page):
    files = [path for path in report_page.parent.rglob("*") if path.is_file()]
    assert len(files) > 40
    assert min(path.stat().st_size for path in files) > 100


def test_every_figure_is_there_as_png_and_svg(report_page):
    figures = report_page.parent / "figures"
    assert {f.stem for f in figures.glob("*.png")} == {f.stem for f in figures.glob("*.svg")}
    assert all(f.read_bytes().startswith(b"\x89PNG") for f in figures.glob("*.png"))
    assert all(b"</svg>" in f.read_bytes() for f in figures.glob("*.svg"))


def test_every_table_is_there_as_csv_that_parses_back(report_page):
    tables = report_page.parent / "tables"
    assert {f.stem for f in tables.glob("*.csv")} == {f.stem for f in tables.glob("*.md")}
    for file in tables.glob("*.csv"):
        heads, *rows = csv.reader(io.StringIO(file.read_text(encoding="utf-8")))
        assert rows
        assert all(len(row) == len(heads) for row in rows)


def test_page_is_well_formed_and_its_links_lead_somewhere(page, report_page):
    tags = Tags(page)
    assert not tags.open
    anchors = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(anchors) == len(set(anchors))
    for link in tags.all("a"):
        target = link["href"]
        assert target[1:] in anchors if target[0] == "#" else (report_page.parent / target).exists()


def test_page_fetches_nothing(page):
    tags = Tags(page)
    sources = [image["src"] for image in tags.all("img")]
    assert len(sources) > 20
    assert all(source.startswith("data:image/") for source in sources)
    assert not tags.all("script")
    assert not tags.all("link")
    without_data = re.sub(r'src="data:[^"]*"', "", page)
    assert not re.search(r"https?://|@import|url\(", without_data)


def test_every_picture_says_what_it_shows(page):
    assert all(len(image["alt"]) > 20 for image in Tags(page).all("img"))


def test_text_is_escaped(page):
    assert "Digits &amp; &lt;friends&gt;" in page
    assert "got 0 &lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in page
    assert "<script>" not in page


def test_failed_runs_are_listed_and_not_averaged(page, report_page):
    tables = report_page.parent / "tables"
    text = (tables / "failed-runs.csv").read_text(encoding="utf-8")
    (failed,) = csv.DictReader(io.StringIO(text))
    assert (failed["name"], failed["seed"]) == ("dc", "0.0")
    assert "dc" not in (tables / "distillation-digits-summary.csv").read_text(encoding="utf-8")
    assert "78 completed runs and 1 that failed, seeds 0, 1, 2" in page


def test_page_names_machine_versions_and_every_command(page):
    assert "2 x AMD EPYC, 24 GiB" in page
    assert "python 3.11.7, torch 2.9.1, flwr 1.41.0" in page
    assert page.count("<code>fedcl ") == 79 + 1


def test_page_follows_the_order_of_the_scenarios(page):
    heads = re.findall(r"<h2>([^<]*)</h2>", page)
    assert heads == [
        "Dataset distillation on digits",
        "Federated learning on digits",
        "Continual learning on digits",
        "Federated continual learning on digits",
        "Runs, machine and definitions",
    ]


def test_each_data_set_has_its_own_section(tmp_path, write_run):
    for dataset in ("digits", "mnist"):
        config = {"dataset": {"name": dataset}}
        write_run(
            tmp_path / "runs", "federated", "fedavg", config=config, metrics={"accuracy": 0.5}
        )
    page = write_report([tmp_path / "runs"], tmp_path / "out").read_text(encoding="utf-8")
    assert re.findall(r'<section id="([^"]*)"', page) == [
        "federated-digits",
        "federated-mnist",
        "runs",
    ]


def test_same_runs_give_the_same_report(tmp_path, write_run):
    write_run(tmp_path / "runs", "distillation", "dm", metrics={"accuracy": 0.5})
    first = write_report([tmp_path / "runs"], tmp_path / "a").read_bytes()
    assert write_report([tmp_path / "runs"], tmp_path / "b").read_bytes() == first


@pytest.mark.parametrize(
    "scenario", ["distillation", "federated", "continual", "federated_continual"]
)
def test_a_run_without_any_metric_is_coped_with(tmp_path, scenario, write_run):
    write_run(tmp_path / "runs", scenario, "dm")
    page = write_report([tmp_path / "runs"], tmp_path / "out").read_text(encoding="utf-8")
    assert "No run of this section completed with an accuracy." in page
    assert "Fewer than three seeds" in page


def test_a_folder_given_twice_counts_once(tmp_path, write_run):
    folder = write_run(tmp_path, "distillation", "dm")
    assert len(find_runs([tmp_path, folder, folder.parent])) == 1


def test_no_record_is_an_error(tmp_path):
    with pytest.raises(CommandError, match=r"folders must hold a run's record\.json .*, got .*"):
        write_report([tmp_path], tmp_path / "out")


def test_an_earlier_report_is_replaced_and_other_files_stay(tmp_path, write_run):
    write_run(tmp_path / "runs", "distillation", "dm", metrics={"accuracy": 0.5})
    out = tmp_path / "out"
    write_report([tmp_path / "runs"], out, "first")
    (out / "notes.txt").write_text("mine")
    (out / "tables" / "stale.csv").write_text("old")
    assert "second" in write_report([tmp_path / "runs"], out, "second").read_text(encoding="utf-8")
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "tables" / "stale.csv").exists()


def test_a_folder_of_something_else_is_refused(tmp_path, write_run):
    folder = write_run(tmp_path / "runs", "distillation", "dm")
    with pytest.raises(
        CommandError, match="out must be a new or empty folder or an earlier report"
    ):
        write_report([folder], folder)
    assert [path.name for path in folder.iterdir()] == ["record.json"]


def test_a_folder_below_a_file_is_refused(tmp_path, write_run):
    folder = write_run(tmp_path / "runs", "distillation", "dm")
    with pytest.raises(CommandError, match="out must be a folder that can be made"):
        write_report([folder], folder / "record.json" / "below")


def test_nothing_is_left_of_a_report_that_fails(tmp_path, write_run):
    folder = write_run(tmp_path / "runs", "distillation", "dm", metrics={"accuracy": 0.5})
    (folder / "synthetic.safetensors").touch()
    (folder / "real.safetensors").write_bytes(b"torn")
    with pytest.raises(SafetensorError, match="header"):
        write_report([folder], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_verb_writes_to_reports_and_the_name_of_the_first_folder(tmp_path, write_run, monkeypatch):
    write_run(tmp_path / "mine", "distillation", "dm", metrics={"accuracy": 0.5})
    write_run(tmp_path / "yours", "distillation", "random", metrics={"accuracy": 0.25})
    monkeypatch.chdir(tmp_path)
    page = report(["mine", "yours"])
    assert page == Path("reports/mine/index.html")
    assert "2 completed runs" in page.read_text(encoding="utf-8")


def test_verb_writes_where_out_says(tmp_path, write_run):
    write_run(tmp_path / "runs", "distillation", "dm", metrics={"accuracy": 0.5})
    page = report(["--out", str(tmp_path / "there"), str(tmp_path / "runs")])
    assert page == tmp_path / "there" / "index.html"
    assert page.is_file()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "report must be given a run or a folder of runs, got none"),
        (["runs", "--outt", "x"], "an option of report must be --out DIR, got --outt"),
        (["runs", "--out"], "--out must be followed by one folder, got none"),
        (["runs", "--out", "a", "--out", "b"], "--out must be followed by one folder, got a b"),
        (["nowhere"], "a run or a folder of runs must exist, got nowhere"),
        (["."], "folders must hold a run's record.json at some depth, got ."),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(words, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match=f"^{re.escape(match)}$"):
        report(words)
    assert not list(tmp_path.iterdir())


def test_runs_that_are_not_finished_are_told(tmp_path, write_run):
    done = write_run(tmp_path / "runs", "distillation", "dm", metrics={"accuracy": 0.5})
    (done / "config.yaml").touch()
    assert "not finished" not in write_report([tmp_path], tmp_path / "a").read_text("utf-8")
    begun = done.with_name("0123456789ab")
    begun.mkdir()
    (begun / "config.yaml").touch()
    page = write_report([tmp_path], tmp_path / "b").read_text("utf-8")
    assert "1 completed run, seed 0. Begun and not finished: 1 run." in page


def test_a_run_is_told_by_its_accuracy_and_bytes(tmp_path, write_run):
    metrics = {"accuracy": 0.7975, "bytes_up": 400_000, "bytes_down": 462_000}
    sent = write_run(tmp_path, "federated", "fedavg", metrics=metrics)
    kept = write_run(tmp_path, "continual", "naive", metrics={"average_accuracy": 0.25})
    assert outcome(Run.read(sent)) == "accuracy 79.8 %, 862 kB sent"
    assert outcome(Run.read(kept)) == "average accuracy 25.0 %"
