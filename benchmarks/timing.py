"""Interleaved timing of contestants, so that all of them meet the same conditions."""

import time
from collections.abc import Callable, Mapping
from statistics import median

from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 30


class Interleaved:
    """Contestants that are interleaved: each is timed once per round, so that noise of the machine reaches all.

    Args:
        contestants: The functions to time, by name. Each runs once before the first round, untimed.
        calls: Timed calls of each contestant per round.
    """

    def __init__(self, contestants: Mapping[str, Callable[[], object]], calls: int = 1) -> None:
        self.contestants = contestants
        self.calls = calls
        self.seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for run in contestants.values():
            run()

    def run_round(self) -> None:
        """Time ``calls`` calls of each contestant."""
        for name, run in self.contestants.items():
            self.seconds[name] += [timed(run) for _ in range(self.calls)]

    def medians(self) -> dict[str, float]:
        """Return the median seconds of one call of each contestant."""
        return {name: median(times) for name, times in self.seconds.items()}


def compare(benchmark: BenchmarkFixture, contestants: Mapping[str, Callable[[], object]], images: int) -> None:
    """Time the first contestant with ``benchmark``, interleaved with the others; report images/s and ratios.

    Args:
        images: How many images one call of a contestant processes.
    """
    (name, ours), *others = contestants.items()
    peers = Interleaved(dict(others))
    ours()
    benchmark.pedantic(ours, setup=peers.run_round, rounds=ROUNDS)
    seconds = {name: median_seconds(benchmark), **peers.medians()}
    benchmark.extra_info |= {
        "images_per_s": {contestant: round(images / value) for contestant, value in seconds.items()},
        f"times_faster_is_{name}": {peer: round(seconds[peer] / seconds[name], 2) for peer in peers.contestants},
    }


def timed(function: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def median_seconds(benchmark: BenchmarkFixture) -> float:
    """Return the median of the rounds that ``benchmark`` timed."""
    assert benchmark.stats is not None, "benchmarks are disabled"
    return float(benchmark.stats.stats.median)
