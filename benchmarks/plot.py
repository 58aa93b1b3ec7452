"""The plot of images/s by batch size of the models and their peers."""

import io
from collections import defaultdict
from statistics import median

from matplotlib.figure import Figure

from benchmarks.comparisons import OURS, label
from benchmarks.runs import Run

Curve = dict[int, float]
"""Images/s by batch size."""


def throughput(runs: list[Run]) -> bytes:
    """Return the median throughput by batch size as a PNG file, the fastest contestant first in the legend."""
    curves = strongest(median_curves(runs))
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    for name in sorted(curves, key=lambda name: -peak(curves[name])):
        style, text = ("-", f"this project: {name}") if name in OURS else ("--", label(name))
        axes.plot(*zip(*sorted(curves[name].items()), strict=True), marker="o", linestyle=style, label=text)
    sizes = sorted({size for curve in curves.values() for size in curve})
    axes.set(xscale="log", xlabel="images per batch", ylabel="images/s", ylim=(0, None))
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def median_curves(runs: list[Run]) -> dict[str, Curve]:
    """Return the median over the runs of each contestant."""
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for benchmark in run.in_group("model alone"):
            for name, value in benchmark["images_per_s"].items():
                values[name][benchmark["batch"]].append(value)
    return {name: {size: median(each) for size, each in by_size.items()} for name, by_size in values.items()}


def peak(curve: Curve) -> float:
    """Return the images/s at the best batch size."""
    return max(curve.values())


def strongest(curves: dict[str, Curve]) -> dict[str, Curve]:
    """Leave out OpenVINO's slower runs on our graphs; the fastest with float weights and the fastest in int8 stay."""
    variants = [name for name in curves if name.startswith("OpenVINO on ") and ".onnx" in name]
    kinds = [[name for name in variants if ("int8" in name) == quantized] for quantized in (False, True)]
    fastest = [max(kind, key=lambda name: peak(curves[name])) for kind in kinds if kind]
    return {name: curve for name, curve in curves.items() if name not in variants or name in fastest}
