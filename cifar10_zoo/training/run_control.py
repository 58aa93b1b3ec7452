"""How a training shares its folder and its console with others: alone in the one, stopped from the other."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from cifar10_zoo.errors import OptionError, TrainingError


@contextmanager
def alone_in(train_dir: Path) -> Iterator[None]:
    """Refuse to train where another training is under way; its lock goes with its process, however that ends."""
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


@contextmanager
def stop_signals(second_kills: bool) -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in a list instead of dying of them.

    Args:
        second_kills: whether a second signal ends the process as usual. Of several processes each gets Ctrl-C twice,
            from the terminal and from torchrun, which kills what has not ended in time.
    """
    received: list[int] = []

    def receive(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if second_kills:
            restore()

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    wanted = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    heeded = [number for number in wanted if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
    previous = {number: signal.signal(number, receive) for number in heeded}
    try:
        yield received
    finally:
        restore()
