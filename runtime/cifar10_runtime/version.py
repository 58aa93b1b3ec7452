"""Versions of installed packages."""

import os
import sys
from contextlib import suppress

NOT_INSTALLED = "not installed"
_SUFFIX = ".dist-info"


def version_of(package: str) -> str:
    """Return the version of an installed package, else ``NOT_INSTALLED``.

    The name of the folder PACKAGE-VERSION.dist-info says it. ``importlib.metadata`` takes as long to import as
    everything that ``--help`` needs, so that it is only asked for a package without such a folder.
    """
    prefix = f"{package.replace('-', '_').lower()}-"
    for folder in sys.path:
        with suppress(OSError):
            for name in os.listdir(folder or "."):
                if name.endswith(_SUFFIX) and name.lower().startswith(prefix):
                    return name[len(prefix) : -len(_SUFFIX)]
    return _version_by_metadata(package)


def _version_by_metadata(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED
