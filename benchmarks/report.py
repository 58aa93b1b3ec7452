"""Keep the results of a run of the benchmarks, and bring table and plot in the README up to date.

    python benchmarks/report.py RAW.json     # what pytest --benchmark-json=RAW.json wrote; `make bench` calls it
    python benchmarks/report.py              # the README alone

Results are kept as benchmarks/results/NAME.runK.json and all runs of one NAME, versions and hardware, as NAME.csv. The
README shows those of the newest.
"""

import contextlib
import csv
import importlib.metadata
import io
import json
import platform
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from cifar10_runtime import atomic
from cifar10_runtime.engine.threads import usable_processors
from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
MEASURED = re.compile(r"(<!-- measured by make bench -->\n).*(<!-- end -->)", re.DOTALL)
PLOT = RESULTS / "throughput.png"

PACKAGES = ("torch", "onnxruntime", "onnxruntime-gpu", "openvino", "kornia-rs", "simplejpeg", "pillow", "numpy")

Run = list[dict[str, Any]]


def keep(raw: Path) -> str:
    """Write what counts of ``raw`` as the next run of its versions and hardware; returns their name."""
    report = json.loads(raw.read_text(encoding="utf-8"))
    machine = this_machine()
    name = name_of(machine)
    benchmarks = [
        {
            "group": result["group"],
            "name": result["name"],
            "median_s": result["stats"]["median"],
            "rounds": result["stats"]["rounds"],
            **result["extra_info"],
        }
        for result in report["benchmarks"]
    ]
    content = {"date": report["datetime"][:10], "machine": machine, "benchmarks": benchmarks}
    number = len(list(RESULTS.glob(f"{name}.run*.json"))) + 1
    text = json.dumps(content, indent=1) + "\n"
    atomic.write_file(RESULTS / f"{name}.run{number}.json", text.encode())
    atomic.write_file(RESULTS / f"{name}.csv", as_csv(name).encode())
    return name


def this_machine() -> dict[str, Any]:
    """Hardware and versions."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "processor": processor(),
        "processors": usable_processors(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {"python": platform.python_version(), **versions},
    }


def processor() -> str:
    """Its name and, since many virtual machines give no more than that, family and model."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return f"{facts['model name']} family {facts['cpu family']} model {facts['model']}"


def name_of(machine: dict[str, Any]) -> str:
    """Versions and hardware as a file name."""
    versions = machine["versions"]
    runtime = versions.get("onnxruntime") or versions.get("onnxruntime-gpu")
    hardware = machine["gpu"] or f"{machine['processor']} {machine['processors']} cores"
    slug = re.sub(r"[^a-z0-9.]+", "-", hardware.lower()).strip("-")
    return f"bench-torch{versions['torch'].split('+')[0]}-onnxruntime{runtime}-{slug}"


def runs_of(name: str) -> list[Run]:
    """The benchmarks of each run that is kept."""
    paths = sorted(RESULTS.glob(f"{name}.run*.json"))
    return [json.loads(path.read_text(encoding="utf-8"))["benchmarks"] for path in paths]


def as_csv(name: str) -> str:
    """All runs, one value a row."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["run", "group", "benchmark", "measure", "contestant", "value"])
    for number, run in enumerate(runs_of(name), start=1):
        for benchmark in run:
            for measure, contestant, value in values(benchmark):
                writer.writerow([number, benchmark["group"], benchmark["name"], measure, contestant, value])
    return file.getvalue()


def values(benchmark: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Measure, contestant and value of everything that a benchmark reports."""
    for measure, value in benchmark.items():
        if measure in ("group", "name"):
            continue
        for contestant, one in value.items() if isinstance(value, dict) else [("", value)]:
            yield measure, contestant, one


def best_images_per_s(run: Run) -> dict[str, float]:
    """Of each contestant in throughput, with the batch size that suits it best."""
    best: dict[str, float] = defaultdict(float)
    for benchmark in run:
        if benchmark["group"] == "model alone":
            for name, value in benchmark["images_per_s"].items():
                best[name] = max(best[name], value)
    return best


def found(run: Run, name: str) -> dict[str, Any]:
    """The benchmark of that name."""
    return next(benchmark for benchmark in run if benchmark["name"] == name)


def over(ours: str, peer: str) -> Callable[[Run], float]:
    """How many times the throughput of ``peer`` that of ``ours`` is."""
    return lambda run: best_images_per_s(run)[ours] / best_images_per_s(run)[peer]


def ratio_of(name: str, measure: str, ours: str, peer: str) -> Callable[[Run], float]:
    """``peer`` by ``ours`` of one measure."""
    return lambda run: found(run, name)[measure][peer] / found(run, name)[measure][ours]


ROWS: list[tuple[str, str, Callable[[Run], float]]] = [
    ("fp32: images/s", "{:,.0f}", lambda run: best_images_per_s(run)["fp32"]),
    ("int8: images/s", "{:,.0f}", lambda run: best_images_per_s(run)["int8"]),
    ("the usual export: images/s", "{:,.0f}", lambda run: best_images_per_s(run)["usual export"]),
    ("fp32 over the usual export", "{:.2f}x", over("fp32", "usual export")),
    ("fp32 over PyTorch", "{:.2f}x", over("fp32", "torch")),
    ("fp32 over torch.compile", "{:.2f}x", over("fp32", "torch.compile")),
    ("fp32 over OpenVINO with the usual export", "{:.2f}x", over("fp32", "openvino")),
    ("int8 over the usual export", "{:.2f}x", over("int8", "usual export")),
    ("int8 over OpenVINO with the usual export", "{:.2f}x", over("int8", "openvino")),
    (
        "fp32 over the limit of direct convolution at the measured peak of matrix products",
        "{:.2f}x",
        lambda run: found(run, "test_roofline")["fp32_of_peak"],
    ),
    ("latency of one image, int8, p50", "{:.0f} us", lambda run: found(run, "test_latency")["p50_us"]["int8"]),
    (
        "the usual export by int8, the same",
        "{:.2f}x",
        ratio_of("test_latency", "p50_us", "int8", "usual export"),
    ),
    (
        "`cifar10-infer`, 10,000 PNG files: images/s",
        "{:,.0f}",
        lambda run: found(run, "test_small_files[.png]")["images_per_s"]["fp32"],
    ),
    (
        "the same over a loop with Pillow and the usual export",
        "{:.2f}x",
        ratio_of("test_small_files[.png]", "seconds", "fp32", "plain loop"),
    ),
    (
        "the same with 10,000 JPEG files",
        "{:.2f}x",
        ratio_of("test_small_files[.jpg]", "seconds", "fp32", "plain loop"),
    ),
    (
        "PNG files by the throughput of the model alone",
        "{:.0%}",
        lambda run: found(run, "test_small_files[.png]")["of_the_model_alone"]["fp32"],
    ),
    (
        "200 photographs of 12 megapixels over the loop with Pillow",
        "{:.2f}x",
        ratio_of("test_photos", "seconds", "fp32", "plain loop"),
    ),
    (
        "start of `cifar10-infer` to the first prediction",
        "{:.2f} s",
        lambda run: found(run, "test_start")["seconds"]["fp32"],
    ),
    ("peak memory, 100,000 files by 1,000", "{:.2f}x", lambda run: found(run, "test_memory")["ratio"]),
]
"""The README's table: what, how it is written, and how it comes from the benchmarks of one run."""


def table(runs: list[Run]) -> str:
    """The rows in Markdown: the median of all runs, and lowest and highest."""
    lines = ["| | median of the runs | lowest to highest |", "|---|---|---|"]
    for title, form, value in ROWS:
        each = [value(run) for run in runs]
        low, high = form.format(min(each)), form.format(max(each))
        lines.append(f"| {title} | {form.format(median(each))} | {low} to {high} |")
    return "\n".join(lines)


def plot(runs: list[Run]) -> bytes:
    """Throughput by batch size of every contestant as a PNG file."""
    points: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for benchmark in run:
            if benchmark["group"] == "model alone":
                for name, value in benchmark["images_per_s"].items():
                    points[name][benchmark["batch"]].append(value)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, by_batch in points.items():
        ours = name in ("fp32", "int8", "fp16")
        batches = sorted(by_batch)
        heights = [median(by_batch[batch]) for batch in batches]
        axes.plot(batches, heights, marker="o", linestyle="-" if ours else "--", label=name)
    axes.set(xscale="log", xlabel="images in a batch", ylabel="images/s", ylim=(0, None))
    axes.set_xticks(batches, [str(batch) for batch in batches], minor=False)
    axes.grid(alpha=0.3)
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def update_readme(name: str) -> None:
    """Table and plot of all runs of ``name``, between the two marks."""
    runs = runs_of(name)
    machine = json.loads((RESULTS / f"{name}.run1.json").read_text(encoding="utf-8"))["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    where = f"{machine['processors']} cores of {machine['processor']}; {versions}; runs of `make bench`: {len(runs)}."
    atomic.write_file(PLOT, plot(runs))
    picture = f"![images/s by batch size]({PLOT.relative_to(ROOT).as_posix()})"
    text = README.read_text(encoding="utf-8")
    measured = f"\n{table(runs)}\n\n{where}\n\n{picture}\n\n"
    text, marks = MEASURED.subn(lambda match: f"{match[1]}{measured}{match[2]}", text)
    assert marks == 1, f"{README} has lost its marks"
    atomic.write_file(README, text.encode())


def main(arguments: list[str]) -> None:
    """Keep the run, if one is given; then update the README."""
    if arguments:
        name = keep(Path(arguments[0]))
    else:
        newest = max(RESULTS.glob("bench-*.run*.json"), key=lambda path: json.loads(path.read_text())["date"])
        name = newest.name.split(".run")[0]
    update_readme(name)


if __name__ == "__main__":
    main(sys.argv[1:])
