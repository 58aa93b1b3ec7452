"""How the commands answer signals that tell them to stop."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

EXIT_SIGNAL = 128
"""Exit status of a command that signal N stopped, less N: what a shell reports."""


class Stopped(KeyboardInterrupt):
    """A signal told the process to stop."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


def on_signals(action: Callable[[int, FrameType | None], None]) -> None:
    """Install ``action`` for SIGINT, SIGTERM and SIGHUP, except for those that are ignored, as under ``nohup``."""
    for number in (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")):
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, action)


def stop_at_once(signal_number: int, _frame: FrameType | None) -> None:
    """End the process while there is nothing to save; an exception could become the ImportError of a C extension."""
    os._exit(EXIT_SIGNAL + signal_number)


def raise_stopped(signal_number: int, _frame: FrameType | None) -> NoReturn:
    """Raise ``Stopped`` while there is something to save or to remove."""
    raise Stopped(signal_number)


@contextmanager
def signals_raise() -> Iterator[None]:
    """While the block runs, a signal raises ``Stopped``, so that the block can save its work."""
    try:
        on_signals(raise_stopped)
        yield
    finally:
        on_signals(stop_at_once)
