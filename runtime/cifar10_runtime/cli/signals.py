"""How the commands react to signals that tell them to stop: SIGINT, SIGTERM, and SIGHUP or SIGBREAK."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

EXIT_SIGNAL = 128
"""A command that signal N stopped exits with this plus N, as in a shell."""
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Windows has no SIGHUP (the terminal is closed), and only Windows has SIGBREAK (Ctrl+Break)."""


class Stopped(KeyboardInterrupt):
    """A signal told the process to stop."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


def on_signals(action: Callable[[int, FrameType | None], None]) -> None:
    """Install ``action`` for the signals, except for ignored signals, for example under ``nohup``."""
    for number in (getattr(signal, name, None) for name in _SIGNALS):
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, action)


def stop_at_once(signal_number: int, _frame: FrameType | None) -> None:
    """End the process. Right while no rows can be lost; an exception could become the ImportError of a C extension."""
    os._exit(EXIT_SIGNAL + signal_number)


def raise_stopped(signal_number: int, _frame: FrameType | None) -> NoReturn:
    """Raise ``Stopped``. Right while there are rows to save or files to remove.

    Raises:
        Stopped: Always.
    """
    raise Stopped(signal_number)


@contextmanager
def signals_raise() -> Iterator[None]:
    """While the block runs, a signal raises ``Stopped``, so that the block can save its work."""
    try:
        on_signals(raise_stopped)
        yield
    finally:
        on_signals(stop_at_once)
