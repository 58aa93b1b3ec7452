"""What the user sees while training: the tutorial's lines, or a bar where the output is a terminal."""

import sys
import time
from contextlib import suppress
from datetime import datetime

from tqdm import tqdm


class Lap:
    """The time since a step."""

    def __init__(self, step: int) -> None:
        self.step, self.start = step, time.monotonic()

    def seconds(self) -> float:
        """Since the lap began."""
        return time.monotonic() - self.start

    def steps_per_second(self, step: int) -> float:
        """The speed from the last step to this one; the next lap begins here."""
        speed = (step - self.step) / max(self.seconds(), 1e-9)
        self.step, self.start = step, time.monotonic()
        return speed


class Progress:
    """Reports steps on stdout.

    Args:
        step: the step that training goes on from.
        max_steps: the step at which it ends.
        batch_size: images that each process takes a step.
        processes: how many there are.
    """

    def __init__(self, step: int, max_steps: int, batch_size: int, processes: int) -> None:
        self._lap = Lap(step)
        self._batch_size, self._processes = batch_size, processes
        self._bar = None
        if sys.stdout.isatty():
            self._bar = tqdm(initial=step, total=max_steps, unit="step", file=sys.stdout, dynamic_ncols=True)

    def close(self) -> None:
        """Leave the console to others."""
        if self._bar is not None:
            with suppress(OSError):  # the terminal may be gone
                self._bar.close()

    def advance(self) -> None:
        """Count one step more."""
        if self._bar is not None:
            self._bar.update()

    def report(self, step: int, loss: float, completed: int) -> None:
        """Tell the loss of ``step``, and the speed since the last report at ``completed`` steps."""
        batches_per_second = self._lap.steps_per_second(completed) * self._processes
        images_per_second = batches_per_second * self._batch_size
        if self._bar is None:
            rates = f"{images_per_second:.1f} examples/sec; {1 / batches_per_second:.3f} sec/batch"
            print(f"{datetime.now()}: step {step}, loss = {loss:.2f} ({rates})", flush=True)
        else:
            self._bar.set_postfix_str(f"loss {loss:.2f}, {images_per_second:.0f} images/s", refresh=False)
