"""The entry point of cifar10-infer: runs the command and turns errors into one line and an exit status.

Each command imports what it needs when it runs, so that ``--help`` and ``--version`` answer at once.
"""

import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from cifar10_runtime.cli.parser import doctor_parser, parser
from cifar10_runtime.cli.signals import EXIT_SIGNAL, Stopped, on_signals, stop_at_once
from cifar10_runtime.errors import InferenceError, UsageError
from cifar10_runtime.options import InferOptions
from cifar10_runtime.text import printable

EXIT_OK, EXIT_FATAL, EXIT_USAGE, EXIT_SOME_FAILED = 0, 1, 2, 3


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command with ``args`` (default: the command line) and exit.

    The process ends by ``os._exit``: the interpreter's own shutdown takes longer than classifying a hundred images,
    and waits for threads.
    """
    on_signals(stop_at_once)
    _prepare_standard_streams()
    status = status_of(lambda: _run(sys.argv[1:] if args is None else args))
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:
        status = status or EXIT_FATAL
    os._exit(status)


def _prepare_standard_streams() -> None:
    """Connect closed standard streams to nothing, and let stdout take any text.

    The next file that is opened would take the place of a closed stream. On Windows, a pipe takes only the letters of
    the system's code page; stdout then gets escapes of other letters, as stderr does.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(args: Sequence[str]) -> int:
    if args and args[0] == "doctor":
        return _run_doctor(args[1:])
    options = parser().parse_args(args)
    if vars(options).pop("version"):
        from cifar10_runtime.version import version_of

        print(f"cifar10-infer {version_of('cifar10-zoo')}")
        return EXIT_OK
    from cifar10_runtime.cli.run import run

    failed = run(InferOptions(**vars(options) | {"paths": tuple(options.paths)}))
    return EXIT_SOME_FAILED if failed else EXIT_OK


def _run_doctor(args: Sequence[str]) -> int:
    options = doctor_parser().parse_args(args)
    from cifar10_runtime.cli.doctor.command import examine

    return EXIT_OK if examine(options.json) else EXIT_FATAL


def status_of(run: Callable[[], int]) -> int:
    """Call ``run`` and return its exit status; print an error as one line on stderr."""
    try:
        return run()
    except SystemExit:  # argparse has printed the help
        return EXIT_OK
    except UsageError as error:
        return _fail(error, EXIT_USAGE)
    except BrokenPipeError:  # the reader of the rows wants no more
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_FATAL
    except (InferenceError, OSError, MemoryError) as error:
        return _fail(error, EXIT_FATAL)
    except Stopped as stopped:
        return EXIT_SIGNAL + stopped.signal_number


def _fail(error: BaseException, status: int) -> int:
    print(f"error: {printable(str(error)) or type(error).__name__}", file=sys.stderr)  # file names can have line breaks
    return status
