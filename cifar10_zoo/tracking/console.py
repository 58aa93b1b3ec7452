"""Console output of a training run: the tutorial's lines, or a progress bar on a terminal."""

import sys
import time
from contextlib import suppress
from datetime import datetime

from tqdm import tqdm


class Lap:
    """A stopwatch for steps: measures the time and the speed since ``step``."""

    def __init__(self, step: int) -> None:
        self.step, self.start = step, time.monotonic()

    def seconds(self) -> float:
        """Return the seconds since the lap began."""
        return time.monotonic() - self.start

    def steps_per_second(self, step: int) -> float:
        """Return the speed of the lap that ends at ``step``, and begin the next lap."""
        speed = (step - self.step) / max(self.seconds(), 1e-9)
        self.step, self.start = step, time.monotonic()
        return speed


class Progress:
    """Shows the progress of a run on stdout.

    Args:
        step: The number of completed steps.
        last_step: The number of completed steps at which the run ends.
        batch_size: Images per step and rank.
        world_size: The number of ranks.
    """

    def __init__(self, step: int, last_step: int, batch_size: int, world_size: int) -> None:
        self._lap = Lap(step)
        self._batch_size, self._world_size = batch_size, world_size
        self._bar = None
        if sys.stdout.isatty():
            self._bar = tqdm(initial=step, total=last_step, unit="step", file=sys.stdout, dynamic_ncols=True)

    def close(self) -> None:
        """Close the progress bar, so that other output starts on a new line."""
        if self._bar is not None:
            with suppress(OSError):  # the terminal may be closed
                self._bar.close()

    def advance(self) -> None:
        """Move the progress bar by one step."""
        if self._bar is not None:
            self._bar.update()

    def report(self, step: int, loss: float, completed: int) -> None:
        """Show the loss of ``step`` and the speed since the last report.

        Args:
            step: The step, counted from 0.
            loss: The total loss before the update of the step.
            completed: The number of completed steps.
        """
        batches_per_second = self._lap.steps_per_second(completed) * self._world_size
        images_per_second = batches_per_second * self._batch_size
        if self._bar is None:
            rates = f"{images_per_second:.1f} examples/sec; {1 / batches_per_second:.3f} sec/batch"
            print(f"{datetime.now()}: step {step}, loss = {loss:.2f} ({rates})", flush=True)
        else:
            self._bar.set_postfix_str(f"loss {loss:.2f}, {images_per_second:.0f} images/s", refresh=False)

    def validated(self, completed: int, accuracy: float) -> None:
        """Print the validation accuracy on stderr, above the progress bar.

        Args:
            completed: The number of completed steps.
            accuracy: The top-1 accuracy, from 0 to 1.
        """
        line = f"step {completed}: validation accuracy {accuracy:.4f}"
        if self._bar is None:
            print(line, file=sys.stderr)
        else:
            self._bar.write(line, file=sys.stderr)
