"""Show where a model spends its time: microseconds per image of each operation in ONNX Runtime, on one thread.

python benchmarks/profile_model.py int8
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import tyro
from cifar10_runtime.engine.models import find_model
from cifar10_runtime.options import ClassifierOptions

RUNS = 50


@dataclass(frozen=True)
class Options:
    """Print one line per operation, in the order of execution, and the total."""

    model: tyro.conf.Positional[str] = ClassifierOptions.model
    """Name of a model that ships with the package, or path of an .onnx file."""
    batch_size: int = 32
    """Images in a batch."""


class Operation(NamedTuple):
    """A node of the optimized graph."""

    kind: str
    name: str
    shapes: str


def main(options: Options) -> None:
    """Run the model with ONNX Runtime's profiler and print the median of each operation."""
    path, _ = find_model(options.model, "winograd")
    times = kernel_times(profile(path, options.batch_size))
    medians = {operation: median(each) / options.batch_size for operation, each in times.items()}
    for operation, microseconds in medians.items():
        print(f"{microseconds:8.2f}  {operation.kind:<20}{operation.name:<45.44}{operation.shapes}")
    print(f"{sum(medians.values()):8.2f}  total, microseconds per image")


def profile(path: Path, batch_size: int) -> list[dict[str, Any]]:
    """Return the events that ONNX Runtime's profiler records in ``RUNS`` runs on random images."""
    batch = np.random.default_rng(0).integers(0, 256, (batch_size, 32, 32, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.log_severity_level = 3
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        for _ in range(RUNS):
            session.run(["probabilities"], {"images": batch})
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    return events


def kernel_times(events: Iterable[dict[str, Any]]) -> dict[Operation, list[float]]:
    """Return the microseconds of each run of each operation."""
    times: dict[Operation, list[float]] = defaultdict(list)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            sizes = [str(size) for output in event["args"]["output_type_shape"] for size in output.values()]
            name = event["name"].removesuffix("_kernel_time")
            times[Operation(event["args"]["op_name"], name, " ".join(sizes))].append(event["dur"])
    return times


if __name__ == "__main__":
    main(tyro.cli(Options))
