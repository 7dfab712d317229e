"""A safetensors file is read as it was written, and anything else is told in one line."""

import pytest
import torch
from safetensors.torch import save_file

from distill.tensor_file import read_tensors


def test_tensors_and_metadata_are_those_written(tmp_path):
    save_file({"a": torch.tensor([1.5, 2.0])}, tmp_path / "f", {"seed": "3"})
    tensors, metadata = read_tensors("path", tmp_path / "f")
    assert tensors["a"].tolist() == [1.5, 2.0]
    assert metadata == {"seed": "3"}


def test_no_metadata_is_none_at_all(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "f")
    assert read_tensors("path", tmp_path / "f")[1] == {}


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_file_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"^experts\.folder must name a file that is there, got /"):
        read_tensors("experts.folder", tmp_path / name)


def test_another_format_is_refused(tmp_path):
    (tmp_path / "f").write_text("some words that are no header")
    with pytest.raises(
        ValueError, match=r"^path must name a safetensors file, got .*/f: "
    ) as raised:
        read_tensors("path", tmp_path / "f")
    assert "\n" not in str(raised.value)
