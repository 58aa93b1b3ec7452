"""A thread pool that may be closed while other threads use it."""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from cifar10_runtime.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")


class ClosablePool:
    """Threads that run tasks until any thread calls ``close``.

    From then on, new tasks are refused with a ``UsageError``, and tasks that wait for a thread raise it when their turn
    comes. A process that ``os.fork`` makes has none of the threads, so it gets a ``UsageError`` as well.
    """

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="cifar10")
        self._process = os.getpid()
        self._lock = threading.Lock()  # without it, close() could come between the check and the submission of a task
        self._closed = False

    def require_open(self) -> None:
        """Check that tasks may run.

        Raises:
            UsageError: The pool is closed, or belongs to another process.
        """
        if self._closed:
            raise UsageError("the classifier is closed")
        if os.getpid() != self._process:
            raise UsageError("the classifier was made in another process: make one in each")

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
    ) -> Generator[Result, None, None]:
        """Yield ``function(item)`` of each item, in order.

        Args:
            function: The task.
            items: Any number of items; they are taken only as room is made for more tasks.
            ahead: Tasks that may run or wait at a time beyond the one whose result is due.
        """
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(self._submit(function, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def close(self) -> None:
        """Refuse tasks from now on; running tasks continue until ``join``."""
        with self._lock:
            self._closed = True

    def join(self) -> None:
        """Wait for all threads to end."""
        self._executor.shutdown()

    def _submit(self, function: Callable[[Item], Result], item: Item) -> Future[Result]:
        self.require_open()  # before the lock, which a forked process may inherit locked
        with self._lock:
            self.require_open()
            return self._executor.submit(self._run, function, item)

    def _run(self, function: Callable[[Item], Result], item: Item) -> Result:
        self.require_open()
        return function(item)
