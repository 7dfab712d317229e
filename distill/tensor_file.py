"""Reading safetensors files that somebody else names: what is wrong with one is one line."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor


def read_tensors(name: str, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the tensors of a file, on the CPU, and its metadata.

    Args:
        name: What the file is called where it was named, as ``experts.folder``.
        path: The file.

    Raises:
        ValueError: If it isn't there, or is no safetensors file.
    """
    if not path.is_file():
        raise ValueError(f"{name} must name a file that is there, got {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{name} must name a safetensors file, got {path}: {error}") from error
    return tensors, metadata
