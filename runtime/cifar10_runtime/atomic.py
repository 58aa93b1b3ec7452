"""Files that are there completely or not at all."""

import os
from pathlib import Path


def write_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, replacing what is there only once all of it is on the disk.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
