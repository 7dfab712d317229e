"""Packs the records of a comparison's completed runs, for other machines to go on from.

    FEDCL_DATA=FOLDER python -m benchmarks.records federated_fashion

writes ``benchmarks/federated_fashion/records.tar.xz`` from ``runs/`` and from what the archive
held before. ``tar -xf`` of it, in the checkout, puts the records where ``fedcl compare`` finds
them finished and ``fedcl report`` reads them; images and checkpoints are not in it.
"""

import io
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from experiments.build import plan
from experiments.compare import Comparison
from experiments.run import folder_of


def finished(name: str) -> dict[str, bytes]:
    """Returns the record files of a comparison's runs that completed here, by path."""
    arms = Comparison.of([name]).arms
    folders = [folder_of(plan(arm.kind, arm.words)) for arm in arms]
    files = [folder.path / "record.json" for folder in folders if folder.completed()]
    return {str(file): file.read_bytes() for file in files}


def held(archive: Path) -> dict[str, bytes]:
    """Returns the files of an archive by path; none where there is no archive."""
    if not archive.exists():
        return {}
    with tarfile.open(archive) as tar:
        parts = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        return {name: part.read() for name, part in parts.items() if part is not None}


def pack(records: Mapping[str, bytes], archive: Path) -> None:
    """Writes an archive that is the same, byte for byte, for the same records."""
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for name, content in sorted(records.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


if __name__ == "__main__":
    comparison = sys.argv[1]
    target = Path(__file__).parent / comparison / "records.tar.xz"
    before, here = held(target), finished(comparison)
    pack(before | here, target)
    print(f"{len(before | here)} records, {len(here)} of them from runs/, in {target}")
