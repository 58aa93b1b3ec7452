"""Versions of installed packages."""

NOT_INSTALLED = "not installed"


def version_of(package: str) -> str:
    """The version of an installed package, else ``NOT_INSTALLED``."""
    from importlib import metadata  # takes as long to import as everything that --help needs

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED
