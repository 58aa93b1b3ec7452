"""What every command of the training and export subsystems shares: flags from a dataclass, errors as one line."""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

from cifar10_zoo.errors import OptionError, ZooError

Options = TypeVar("Options")


def run(command: Callable[[Options], object], options_type: type[Options], args: Sequence[str] | None = None) -> None:
    """Parse ``args`` (default: the command line) into ``options_type`` and call ``command`` with it.

    Both ``--batch-size`` and the tutorial's ``--batch_size`` are accepted. Exit status: 0 done, 1 an error that the
    message on stderr explains, 2 wrong usage, 130 interrupted.
    """
    try:
        command(tyro.cli(options_type, args=args))
    except (ZooError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, OptionError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
