"""Shared by all training and export commands: options from a dataclass, exit status, errors as one line."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import tyro

from cifar10_zoo.data import cifar10
from cifar10_zoo.errors import Stopped, ZooError, one_line

Options = TypeVar("Options")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Where the data set is; commands that read the data set extend this class."""

    data_dir: Path = field(default_factory=cifar10.default_data_dir)
    """Directory of cifar-10-batches-bin/; CIFAR-10 is downloaded if absent. $CIFAR10_DATA_DIR sets the default."""
    data_url: str = cifar10.ARCHIVE.url
    """URL of the official archive to download (http, https or file)."""


def run(
    command: Callable[[Options], object], options_type: type[Options], default: Any = tyro.MISSING_NONPROP
) -> NoReturn:
    """Call ``command`` with the options of the command line, then end the process.

    Both ``--batch-size`` and the tutorial's ``--batch_size`` are accepted. The exit status is 0 for success, 1 for an
    error, 2 for a wrong option and 128 plus N for signal N. An error is one line on stderr.

    Args:
        command: The function to call; it raises ``ZooError`` or ``OSError`` for an error that a user can fix.
        options_type: A dataclass with one field per option.
        default: An instance of ``options_type`` with other defaults than the class has.
    """
    sys.exit(_exit_status(command, options_type, default))


def _exit_status(command: Callable[[Options], object], options_type: type[Options], default: Any) -> int:
    try:
        command(tyro.cli(options_type, prog=_program(), default=default))
    except (ZooError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return error.exit_status if isinstance(error, ZooError) else 1
    except Stopped as stopped:
        return stopped.exit_status
    except KeyboardInterrupt:
        return 130
    return 0


def _program() -> str:
    """Return the command as the user typed it."""
    spec = sys.modules["__main__"].__spec__
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else f"python {sys.argv[0]}"
