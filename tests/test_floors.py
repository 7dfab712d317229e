"""Imports point downwards only: experiments -> fedcl -> distill."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "distill": {"fedcl", "experiments", "flwr", "avalanche", "hydra", "omegaconf", "matplotlib"},
    "fedcl": {"experiments", "hydra", "omegaconf", "matplotlib"},
}


def imported_packages(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


ADAPTERS = {"fedcl/continual/avalanche.py", "fedcl/continual/avalanche_loop.py"}


def test_only_adapters_import_avalanche():
    importing = {
        str(file.relative_to(ROOT))
        for package in ("distill", "fedcl", "experiments")
        for file in (ROOT / package).rglob("*.py")
        if "avalanche" in imported_packages(file)
    }
    assert importing == ADAPTERS


@pytest.mark.parametrize("package", FORBIDDEN)
def test_package_imports_nothing_above_it(package):
    for file in (ROOT / package).rglob("*.py"):
        above = imported_packages(file) & FORBIDDEN[package]
        assert not above, f"{file.relative_to(ROOT)} imports {sorted(above)}"
