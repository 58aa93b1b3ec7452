"""What every command of the training and export subsystems shares: flags from a dataclass, errors as one line."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import tyro

from cifar10_zoo.data import cifar10 as dataset
from cifar10_zoo.errors import OptionError, ZooError

Options = TypeVar("Options")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Where the data set is; the commands that read it extend this."""

    data_dir: Path = field(default_factory=dataset.default_data_dir)
    """Folder of cifar-10-batches-bin/; CIFAR-10 is downloaded if absent. $CIFAR10_DATA_DIR sets the default."""
    data_url: str = dataset.ARCHIVE.url
    """Where to download the official archive from (http, https or file)."""

    def load(self, split: dataset.Split) -> dataset.Dataset:
        """Read a split of the data set, downloaded first if need be."""
        return dataset.load(self.data_dir, split, self.data_url)


def run(command: Callable[[Options], object], options_type: type[Options], default: Any = tyro.MISSING_NONPROP) -> None:
    """Parse the command line into ``options_type`` and call ``command`` with it.

    Args:
        default: what the flags that are not given are taken from, instead of the defaults of ``options_type``.

    Both ``--batch-size`` and the tutorial's ``--batch_size`` are accepted. Exit status: 0 done, 1 an error that the
    message on stderr explains, 2 wrong usage, 130 interrupted.
    """
    try:
        command(tyro.cli(options_type, prog=_program(), default=default))
    except (ZooError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, OptionError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)


def _program() -> str:
    """The command as the user typed it."""
    spec = sys.modules["__main__"].__spec__
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else f"python {sys.argv[0]}"
