"""Ctrl-C during the imports of a command, which take seconds: the process ends without the traceback of an import."""

import os
import signal
import sys
from pathlib import Path
from types import FrameType

_SCRIPTS = ("cifar10-fit", "to_onnx")


def end_on_interrupt() -> None:
    """Let SIGINT end the process at once, if it runs a command of this project; ``cli.run`` ends this state.

    The packages call this function before their first import, so it must do nothing in other programs. While Python
    locates the module that ``python -m`` names, ``sys.argv[0]`` is ``-m``: then that module is in a package of ours.

    An exception would not do: some C extensions turn it into an ImportError.
    """
    program = sys.argv[0] if sys.argv else ""
    is_command = program == "-m" or Path(program).stem in _SCRIPTS
    if is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_on_interrupt() -> None:
    """Let SIGINT raise KeyboardInterrupt again, as usual in Python."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(signal_number: int, _frame: FrameType | None) -> None:
    os._exit(128 + signal_number)
