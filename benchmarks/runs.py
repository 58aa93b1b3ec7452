"""Results of ``make bench`` on disk: each run as NAME.runK.json, all runs of one NAME as NAME.csv.

NAME consists of the versions and the hardware.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar10_runtime import atomic

from benchmarks.machine import Machine, file_name, this_machine

RESULTS = Path(__file__).parent / "results"

Benchmark = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One run of ``make bench``."""

    date: str
    """ISO date and time in UTC; the first runs have only the date."""
    machine: Machine
    benchmarks: list[Benchmark]

    def find(self, name: str) -> Benchmark:
        """Return the benchmark of that test, empty if this run lacks it."""
        return next((benchmark for benchmark in self.benchmarks if benchmark["name"] == name), {})

    def in_group(self, group: str) -> list[Benchmark]:
        """Return the benchmarks of a group."""
        return [benchmark for benchmark in self.benchmarks if benchmark["group"] == group]


def keep(raw: Path) -> str:
    """Write the results in ``raw``, a file of pytest-benchmark, as the next run of this machine; return its NAME."""
    report = json.loads(raw.read_text(encoding="utf-8"))
    run = Run(report["datetime"][:19], this_machine(), [_result(benchmark) for benchmark in report["benchmarks"]])
    name = file_name(run.machine)
    number = len(_paths(name)) + 1
    text = json.dumps(vars(run), indent=1) + "\n"
    atomic.write_file(RESULTS / f"{name}.run{number}.json", text.encode())
    atomic.write_file(RESULTS / f"{name}.csv", as_csv(read(name)).encode())
    return name


def _result(benchmark: Benchmark) -> Benchmark:
    return {
        "group": benchmark["group"],
        "name": benchmark["name"],
        "median_s": benchmark["stats"]["median"],
        "rounds": benchmark["stats"]["rounds"],
        **benchmark["extra_info"],
    }


def read(name: str) -> list[Run]:
    """Return all runs of NAME, the oldest first."""
    return [Run(**json.loads(path.read_text(encoding="utf-8"))) for path in _paths(name)]


def _paths(name: str) -> list[Path]:
    return sorted(RESULTS.glob(f"{name}.run*.json"), key=lambda path: int(path.stem.rpartition(".run")[2]))


def newest_name() -> str:
    """Return the NAME of the newest run."""
    newest = max(RESULTS.glob("bench-*.run*.json"), key=lambda path: str(json.loads(path.read_text())["date"]))
    return newest.name.partition(".run")[0]


def as_csv(runs: list[Run]) -> str:
    """Return the runs as CSV with one value per row."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["run", "group", "benchmark", "measure", "contestant", "value"])
    for number, run in enumerate(runs, start=1):
        for benchmark in run.benchmarks:
            for measure, contestant, value in _values(benchmark):
                writer.writerow([number, benchmark["group"], benchmark["name"], measure, contestant, value])
    return file.getvalue()


def _values(benchmark: Benchmark) -> Iterator[tuple[str, str, Any]]:
    """Yield measure, contestant (or "") and value of each number of a benchmark."""
    for measure, value in benchmark.items():
        if measure in ("group", "name"):
            continue
        for contestant, one in value.items() if isinstance(value, dict) else [("", value)]:
            yield measure, contestant, one
