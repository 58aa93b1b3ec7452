"""Write SHA256SUMS: the checksums of all files in a folder, in the format of ``sha256sum --check``."""

import hashlib
from pathlib import Path

SUMS = "SHA256SUMS"


def write(folder: Path) -> None:
    """Write ``folder/SHA256SUMS`` for all files that are in ``folder``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
