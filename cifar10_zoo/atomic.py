"""Directories that appear complete or not at all, even if the program or the machine stops."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cifar10_runtime.atomic import replace, sync


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Create ``target`` at the end of the block, with all files that the block wrote.

    Yields:
        A temporary directory for these files. It becomes ``target``; after an error it is deleted.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        temporary.chmod(0o755)
        yield temporary
        for path in temporary.iterdir():
            sync(path)
        replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync(target.parent)
