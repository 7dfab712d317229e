import subprocess
import sys

import pytest
from avalanche.benchmarks.datasets import dataset_utils

from fedcl.continual.late import SETTINGS, avalanche_loop


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return SETTINGS.expanduser()


def test_filters_of_warnings_stay_as_they_are_while_avalanche_is_imported():
    code = (  # in a process of its own, since later imports do nothing
        "import warnings; before = list(warnings.filters)\n"
        "from fedcl.continual.late import avalanche_loop; avalanche_loop()\n"
        "assert warnings.filters == before, warnings.filters"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("half_written", [False, True])
def test_settings_are_those_that_avalanche_writes_and_are_whole(
    settings, half_written, monkeypatch
):
    monkeypatch.setattr(dataset_utils, "AVALANCHE_CONFIG_ROOT", str(settings.parent))
    monkeypatch.setattr(dataset_utils, "AVALANCHE_CONFIG_FILENAME", str(settings))
    dataset_utils.maybe_init_config_file()
    theirs = settings.read_text()
    settings.unlink()
    if half_written:  # as the other process leaves it between opening and writing
        settings.touch()
    avalanche_loop()
    assert settings.read_text() == theirs
    assert [file.name for file in settings.parent.iterdir()] == [settings.name]


def test_settings_that_somebody_made_stay(settings):
    settings.parent.mkdir()
    settings.write_text('{"dataset_location": "/elsewhere"}')
    avalanche_loop()
    assert settings.read_text() == '{"dataset_location": "/elsewhere"}'
