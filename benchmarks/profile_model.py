"""Where the time of a model goes: microseconds an image of each operation that ONNX Runtime makes of it, on one thread.

python benchmarks/profile_model.py int8
"""

import json
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
import tyro
from cifar10_runtime.engine.models import find_model
from cifar10_runtime.options import ClassifierOptions

RUNS = 50


@dataclass(frozen=True)
class Options:
    """Print one line an operation, in the order in which they run, and the total."""

    model: tyro.conf.Positional[str] = ClassifierOptions.model
    """Name of a model that ships with the package, or path of an .onnx file."""
    batch_size: int = 32
    """Images in a batch."""


def main(options: Options) -> None:
    """Run the model with ONNX Runtime's profiler and print what it says."""
    batch = np.random.default_rng(0).integers(0, 256, (options.batch_size, 32, 32, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.log_severity_level = 3
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(
            find_model(options.model, "winograd"), settings, providers=["CPUExecutionProvider"]
        )
        for _ in range(RUNS):
            session.run(["probabilities"], {"images": batch})
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            sizes = [str(size) for output in event["args"]["output_type_shape"] for size in output.values()]
            key = (event["args"]["op_name"], event["name"].removesuffix("_kernel_time"), " ".join(sizes))
            times[key].append(event["dur"] / options.batch_size)
    total = 0.0
    for (operation, name, shapes), durations in times.items():
        total += median(durations)
        print(f"{median(durations):8.2f}  {operation:<20}{name:<45.44}{shapes}")
    print(f"{total:8.2f}  total, microseconds an image")


if __name__ == "__main__":
    main(tyro.cli(Options))
