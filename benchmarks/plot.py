"""The plot of images/s by batch size of every contestant."""

import io
from collections import defaultdict
from statistics import median

from matplotlib.figure import Figure

from benchmarks.comparisons import OURS
from benchmarks.runs import Run


def throughput(runs: list[Run]) -> bytes:
    """Return the median throughput of the models and their peers by batch size as a PNG file."""
    points: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for benchmark in run.in_group("model alone"):
            for name, value in benchmark["images_per_s"].items():
                points[name][benchmark["batch"]].append(value)
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for name, by_batch in points.items():
        batches = sorted(by_batch)
        heights = [median(by_batch[batch]) for batch in batches]
        axes.plot(batches, heights, marker="o", linestyle="-" if name in OURS else "--", label=name)
    ticks = sorted({batch for by_batch in points.values() for batch in by_batch})
    axes.set(xscale="log", xlabel="images per batch", ylabel="images/s", ylim=(0, None))
    axes.set_xticks(ticks, [str(batch) for batch in ticks], minor=False)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
