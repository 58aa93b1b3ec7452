"""One training run per directory, and a graceful stop on signals."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from cifar10_zoo.errors import OptionError, TrainingError

SIGPIPE = 13
"""Stands for a closed console. It is the number of the signal on POSIX; Windows has no such signal."""
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Windows has no SIGHUP (the terminal is closed), and only Windows has SIGBREAK (Ctrl+Break)."""


@contextmanager
def run_lock(train_dir: Path) -> Iterator[None]:
    """Create ``train_dir`` and lock it during the block; the system releases the lock of a killed process.

    Raises:
        OptionError: ``train_dir`` cannot be written to.
        TrainingError: Another process trains in ``train_dir``.
    """
    lock = FileLock(train_dir / ".lock", timeout=0)
    try:
        train_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise TrainingError(f"another training is under way in {train_dir}: name another --train-dir") from None
    except OSError as error:
        raise OptionError(f"--train-dir {train_dir} cannot be written to: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def signal_name(number: int) -> str:
    """Return the name of a signal that asked for a stop."""
    return "SIGPIPE" if number == SIGPIPE else signal.Signals(number).name


class StopRequest:
    """A request to stop training after the current step."""

    signal_number: int | None = None
    """The signal that asked first; None without a request."""

    def request(self, signal_number: int) -> None:
        """Ask for a stop because of the signal ``signal_number``; later requests change nothing."""
        if self.signal_number is None:
            self.signal_number = signal_number


@contextmanager
def stop_on_signals(second_kills: bool) -> Iterator[StopRequest]:
    """During the block, turn SIGINT, SIGTERM, SIGHUP and SIGBREAK into a stop request; an ignored signal stays ignored.

    Args:
        second_kills: Whether a second signal ends the process as usual. With several ranks it must not, because each
            rank receives Ctrl-C twice: from the terminal and from torchrun. torchrun kills ranks that do not stop.

    Yields:
        The stop request.
    """
    stop = StopRequest()
    numbers = [signal.Signals[name] for name in _SIGNALS if hasattr(signal, name)]
    previous = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number in numbers if previous[number] != signal.SIG_IGN]  # nohup ignores SIGHUP

    def restore_handlers() -> None:
        for number in handled:
            signal.signal(number, previous[number])

    def handle(number: int, _frame: FrameType | None) -> None:
        stop.request(number)
        if second_kills:
            restore_handlers()

    for number in handled:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore_handlers()
