"""The comparisons with peers, and the measurements without a peer, that the pages show."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from benchmarks.runs import Run
from cifar10_zoo.network.model import IMAGE_SIZES

OURS = ("fp32", "int8", "fp16", "fp32 in TF32", "ours")
"""The contestants of this project; all others are peers."""
RESNET8 = "ResNet-8"
"""The network of MLPerf Tiny for CIFAR-10, a mark for the speed of a small network."""
LABELS = {
    RESNET8: "ResNet-8 of MLPerf Tiny (another network, random weights)",
    "default export": "default export in ONNX Runtime",
    "torch": "PyTorch",
    "plain loop": "plain loop with Pillow, default export",
    "plain loop, fp32.onnx": "plain loop with Pillow, our fp32.onnx",
    "DataLoader": "DataLoader loop, default export",
    "DataLoader with draft": "DataLoader loop with reduced decoding (Pillow's draft), default export",
    "plain port": "plain PyTorch port with precomputed batches",
}
"""How the pages name a peer; other peers are named as in the results."""
DTYPES = {"int8": "int8", "f32": "float32", "f16": "float16", "bf16": "bf16", "auto": "dtype chosen by OpenVINO"}
"""How the pages name the dtype at the end of a contestant's name; the first runs did not record it."""


def label(peer: str, dtype: str = "float32") -> str:
    """Return how the pages name a peer.

    Args:
        peer: Its name in the results.
        dtype: The dtype of a peer whose name does not end with it.
    """
    known, _, own_dtype = peer.rpartition(", ")
    if own_dtype in DTYPES:
        return f"{LABELS.get(known, known)}, {'int8 and ' * ('int8' in known)}{DTYPES[own_dtype]}"
    return f"{LABELS.get(peer, peer)}, {dtype}"


@dataclass(frozen=True)
class Peer:
    """A contestant beside ours, over the runs that have both."""

    name: str
    value: float
    """The peer's median."""
    our_value: float
    """Our median."""
    ratios: tuple[float, ...]
    """How many times better ours is, per run."""

    @property
    def ratio(self) -> float:
        """The median ratio."""
        return median(self.ratios)


@dataclass(frozen=True)
class Comparison:
    """One thing that was measured for one of ours and for its peers, interleaved."""

    title: str
    ours: str
    values: Callable[[Run], Mapping[str, float]]
    """Returns the value of each contestant of a run; empty if the run lacks the benchmark."""
    form: str
    """Format of a value with its unit."""
    lower_is_better: bool = False
    dtype: str = "float32"
    """The dtype of the peers whose names do not end with it."""
    is_peer: Callable[[str], bool] = lambda name: name not in OURS and not is_mark(name)

    def our_value(self, runs: list[Run]) -> float:
        """Return our median over all runs that have the benchmark."""
        return median(values[self.ours] for values in map(self.values, runs) if self.ours in values)

    def peers(self, runs: list[Run]) -> list[Peer]:
        """Return all peers, the strongest first; none if no run has the benchmark."""
        each = [values for values in map(self.values, runs) if self.ours in values]
        names = {name: None for values in each for name in values if self.is_peer(name)}
        return sorted((self._peer(name, each) for name in names), key=lambda peer: peer.ratio)

    def _peer(self, name: str, each: list[Mapping[str, float]]) -> Peer:
        pairs = [(values[self.ours], values[name]) for values in each if name in values]
        ratios = tuple(peer / ours if self.lower_is_better else ours / peer for ours, peer in pairs)
        return Peer(name, median(peer for _, peer in pairs), median(ours for ours, _ in pairs), ratios)


def best_images_per_s(run: Run) -> dict[str, float]:
    """Return the throughput of each contestant at the batch size that suits it best."""
    best: dict[str, float] = {}
    for benchmark in run.in_group("model alone"):
        for name, value in benchmark["images_per_s"].items():
            best[name] = max(best.get(name, 0), value)
    return best


def measured(test: str, measure: str) -> Callable[[Run], Mapping[str, float]]:
    """Return a function that reads one measure of one test from a run."""
    return lambda run: run.find(test).get(measure, {})


def is_float_peer(name: str) -> bool:
    """Return whether a contestant is a peer that computes with our fp32 weights, not with quantized ones."""
    return name not in OURS and "int8" not in name and not is_mark(name)


def is_mark(name: str) -> bool:
    """Return whether a contestant is another network."""
    return name.startswith(RESNET8)


PNG, JPEG = "test_small_files[.png]", "test_small_files[.jpg]"
COMPARISONS = (
    Comparison(
        "fp32 model only: best batch size", "fp32", best_images_per_s, "{:,.0f} images/s", is_peer=is_float_peer
    ),
    Comparison("int8 model only: best batch size", "int8", best_images_per_s, "{:,.0f} images/s"),
    Comparison(
        "fp32 model only: latency of one image (p50)",
        "fp32",
        measured("test_latency", "p50_us"),
        "{:,.0f} µs",
        lower_is_better=True,
        is_peer=is_float_peer,
    ),
    Comparison(
        "int8 model only: latency of one image (p50)",
        "int8",
        measured("test_latency", "p50_us"),
        "{:,.0f} µs",
        lower_is_better=True,
    ),
    Comparison(
        "`cifar10-infer` with fp32: 10,000 PNG files", "fp32", measured(PNG, "images_per_s"), "{:,.0f} images/s"
    ),
    Comparison(
        "`cifar10-infer` with fp32: 10,000 JPEG files", "fp32", measured(JPEG, "images_per_s"), "{:,.0f} images/s"
    ),
    Comparison(
        "`cifar10-infer` with fp32: 200 photographs of 12 megapixels",
        "fp32",
        measured("test_photos", "seconds"),
        "{:.1f} s",
        lower_is_better=True,
    ),
    Comparison(
        "`cifar10-infer` with fp32: start to first prediction",
        "fp32",
        measured("test_start", "seconds"),
        "{:.2f} s",
        lower_is_better=True,
    ),
    Comparison(
        "Training step in fp32, batches of 128",
        "ours",
        measured("test_training_step[fp32]", "images_per_s"),
        "{:,.0f} images/s",
    ),
    Comparison(
        "Training step in bf16, batches of 128",
        "ours",
        measured("test_training_step[bf16]", "images_per_s"),
        "{:,.0f} images/s",
        dtype="bf16",
    ),
)
"""The ten rows of the README, and the tables of docs/benchmarks.md."""


MARKS = (
    Comparison(
        "fp32 and another small network: best batch size",
        "fp32",
        best_images_per_s,
        "{:,.0f} images/s",
        is_peer=lambda name: name == RESNET8,
    ),
    Comparison(
        "int8 and another small network: best batch size",
        "int8",
        best_images_per_s,
        "{:,.0f} images/s",
        is_peer=lambda name: name == f"{RESNET8}, int8",
    ),
    Comparison(
        "fp32 and another small network: latency of one image (p50)",
        "fp32",
        measured("test_latency", "p50_us"),
        "{:,.0f} µs",
        lower_is_better=True,
        is_peer=lambda name: name == RESNET8,
    ),
    Comparison(
        "int8 and another small network: latency of one image (p50)",
        "int8",
        measured("test_latency", "p50_us"),
        "{:,.0f} µs",
        lower_is_better=True,
        is_peer=lambda name: name == f"{RESNET8}, int8",
    ),
)
"""Tables of docs/benchmarks.md about ResNet-8, which is no peer because it cannot have our weights."""


@dataclass(frozen=True)
class Measurement:
    """A number that has no peer."""

    title: str
    value: Callable[[Run], float | None]
    """Returns the number, or None if the run lacks the benchmark."""
    form: str


def number(test: str, measure: str, contestant: str = "") -> Callable[[Run], float | None]:
    """Return a function that reads one number of one test from a run."""

    def read(run: Run) -> float | None:
        value = run.find(test).get(measure)
        return value.get(contestant) if isinstance(value, dict) else value

    return read


MEASUREMENTS = (
    Measurement(
        "fp32 throughput relative to the direct-convolution roofline (measured GEMM peak)",
        number("test_roofline", "fp32_of_peak"),
        "{:.2f}x",
    ),
    Measurement(
        "int8 throughput relative to the direct-convolution roofline (measured float32 GEMM peak)",
        number("test_roofline", "int8_of_peak"),
        "{:.2f}x",
    ),
    Measurement(
        "fp32: PNG throughput as a share of model-only throughput", number(PNG, "of_the_model_alone", "fp32"), "{:.0%}"
    ),
    Measurement(
        "int8: PNG throughput as a share of model-only throughput", number(PNG, "of_the_model_alone", "int8"), "{:.0%}"
    ),
    Measurement("`cifar10-infer` with int8: 10,000 PNG files", number(PNG, "images_per_s", "int8"), "{:,.0f} images/s"),
    Measurement(
        "`cifar10-infer` with int8: 100,000 PNG files", number("test_many_files", "images_per_s"), "{:,.0f} images/s"
    ),
    Measurement(
        "int8: throughput of 100,000 PNG files as a share of model-only throughput",
        number("test_many_files", "of_the_model_alone"),
        "{:.0%}",
    ),
    Measurement(
        "`cifar10-infer` with int8: peak memory for 100,000 files",
        number("test_many_files", "peak_mib", "many"),
        "{} MiB",
    ),
    Measurement("Peak memory for 100,000 files relative to 1,000 files", number("test_many_files", "ratio"), "{:.2f}x"),
    Measurement(
        "Top-1 predictions that differ between full-size and reduced-size decoding, of 1,000 JPEG files of 1024x768",
        number("test_reduced_decoding", "different_best_class"),
        "{}",
    ),
    Measurement(
        "Training input pipeline without the training step",
        number("test_input_pipeline", "images_per_s"),
        "{:,.0f} images/s",
    ),
    *(
        Measurement(
            f"{model} model only, 2 threads: images of {size}x{size} pixels",
            number(f"test_throughput_by_image_size[{size}]", "images_per_s", model),
            "{:,.0f} images/s",
        )
        for model in ("fp32", "int8")
        for size in IMAGE_SIZES
    ),
)
"""The last table of docs/benchmarks.md."""
