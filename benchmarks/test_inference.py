"""The shipped models through Classifier against other ways to run the same weights."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar10_runtime import Classifier
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.comparisons import RESNET8
from benchmarks.peers import (
    Batch,
    ResNet8,
    Run,
    export_by_default,
    export_by_default_in_int8,
    openvino_runs,
    plain_graph,
    plain_session,
    torch_compiled,
    torch_eager,
)
from benchmarks.timing import Interleaved, compare
from tests.helpers.gpu import can_use_gpu

IMAGES = 512
"""Images per round, in batches of the size that is measured."""
LATENCY_ROUNDS = 100
MACS = 24 * 24 * 64 * 75 + 12 * 12 * 64 * 1600 + 2304 * 384 + 384 * 192 + 192 * 10
"""Multiply-accumulate operations per image with direct convolution."""


@pytest.fixture(scope="module")
def default_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_by_default(tmp_path_factory.mktemp("peer") / "default.onnx")


@pytest.fixture(scope="module")
def peers(default_export: Path) -> dict[str, Run]:
    """The peers with our weights on the CPU, without OpenVINO."""
    in_int8 = export_by_default_in_int8(default_export, default_export.with_name("default-int8.onnx"))
    return {
        "default export": plain_session(default_export),
        "default export, int8": plain_session(in_int8),
        "torch": torch_eager(),
        "torch.compile": torch_compiled(),
    }


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """Another network of a similar use, run like ours: its speed is a mark, because it cannot have our weights."""
    path = export_by_default(tmp_path_factory.mktemp("mark") / "resnet8.onnx", ResNet8())
    in_int8 = export_by_default_in_int8(path, path.with_name("resnet8-int8.onnx"))
    labels = [str(number) for number in range(10)]
    with Classifier(path, "cpu", labels=labels) as resnet, Classifier(in_int8, "cpu", labels=labels) as quantized:
        yield {RESNET8: resnet.probabilities, f"{RESNET8}, int8": quantized.probabilities}


@pytest.fixture(scope="module")
def openvino(default_export: Path) -> dict[str, Run]:
    """OpenVINO for throughput; empty without the package."""
    return openvino_runs(default_export, "THROUGHPUT") if importlib.util.find_spec("openvino") else {}


@pytest.fixture(scope="module")
def ours() -> Iterator[dict[str, Run]]:
    """The shipped models by name."""
    models = {name: Classifier(name, device="cpu") for name in ("fp32", "int8", "fp16")}
    yield {name: model.probabilities for name, model in models.items()}
    for model in models.values():
        model.close()


def random_images(count: int) -> Batch:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def repeated(run: Run, batch_size: int) -> Callable[[], None]:
    """Return a function that runs ``IMAGES`` images in batches."""
    batch, times = random_images(batch_size), max(1, IMAGES // batch_size)

    def repeat() -> None:
        for _ in range(times):
            run(batch)

    return repeat


def on_image(run: Run, image: Batch) -> Callable[[], object]:
    """Return a function that runs one batch of one image."""
    return lambda: run(image)


@pytest.mark.benchmark(group="model alone")
@pytest.mark.parametrize("batch_size", [1, 8, 32, 128, 512])
def test_throughput(
    benchmark: BenchmarkFixture,
    ours: dict[str, Run],
    peers: dict[str, Run],
    openvino: dict[str, Run],
    marks: dict[str, Run],
    batch_size: int,
) -> None:
    contestants = {name: repeated(run, batch_size) for name, run in {**ours, **peers, **openvino, **marks}.items()}
    compare(benchmark, contestants, IMAGES)
    benchmark.extra_info["batch"] = batch_size


@pytest.mark.benchmark(group="latency of one image")
def test_latency(
    benchmark: BenchmarkFixture,
    ours: dict[str, Run],
    peers: dict[str, Run],
    marks: dict[str, Run],
    default_export: Path,
) -> None:
    """Single calls, interleaved: p50, p95 and p99 in microseconds."""
    image = random_images(1)
    runs = {**ours, **peers, **marks}
    if importlib.util.find_spec("openvino"):
        runs |= openvino_runs(default_export, "LATENCY")
    contest = Interleaved({name: on_image(run, image) for name, run in runs.items()}, calls=20)
    benchmark.pedantic(contest.run_round, rounds=LATENCY_ROUNDS)
    for percentile in (50, 95, 99):
        values = {name: round(float(np.percentile(t, percentile)) * 1e6) for name, t in contest.seconds.items()}
        benchmark.extra_info[f"p{percentile}_us"] = values


@pytest.mark.benchmark(group="roofline")
def test_roofline(benchmark: BenchmarkFixture, ours: dict[str, Run]) -> None:
    """The rate of a large float32 GEMM, interleaved with the models: multiply-accumulate operations per second."""
    size = 1536
    a, b = torch.randn(size, size), torch.randn(size, size)
    models = {name: repeated(ours[name], 32) for name in ("fp32", "int8")}
    contest = Interleaved({"GEMM": lambda: a @ b, **models})
    benchmark.pedantic(contest.run_round, rounds=30)
    seconds = contest.medians()
    peak = size**3 / seconds["GEMM"]
    benchmark.extra_info["peak_gmacs"] = round(peak / 1e9, 1)
    benchmark.extra_info["images_per_s_at_peak"] = round(peak / MACS)
    for name in models:
        benchmark.extra_info[f"{name}_of_peak"] = round(IMAGES / seconds[name] * MACS / peak, 2)


@pytest.mark.benchmark(group="model alone on CUDA")
@pytest.mark.skipif(not can_use_gpu("onnxruntime-gpu"), reason="needs a CUDA GPU")
@pytest.mark.parametrize("batch_size", [1, 8, 64, 512, 8192])
@pytest.mark.parametrize("arithmetic", ["float32", "TF32", "float16"])
def test_throughput_on_cuda(
    benchmark: BenchmarkFixture, default_export: Path, batch_size: int, arithmetic: str
) -> None:
    """All contestants compute in the same arithmetic; all times include the copies to and from the GPU."""
    tf32 = arithmetic == "TF32"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    eager = plain_graph().cuda()
    runs = {"torch": in_torch(eager, arithmetic), "torch.compile": in_torch(torch.compile(eager), arithmetic)}
    if arithmetic == "float16":
        runs["ours"] = Classifier("fp16", device="cuda").probabilities
    else:
        runs["ours"] = Classifier("fp32", device="cuda", fast_math=tf32).probabilities
        runs["default export"] = plain_session(default_export, "CUDAExecutionProvider", use_tf32=str(int(tf32)))
    compare(benchmark, {name: repeated(run, batch_size) for name, run in runs.items()}, max(IMAGES, batch_size))
    benchmark.extra_info |= {"batch": batch_size, "gpu": torch.cuda.get_device_name()}
    eager.cpu()


def in_torch(graph: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]], arithmetic: str) -> Run:
    """Return a contestant that runs ``graph`` on the GPU, under autocast if ``arithmetic`` is float16."""

    def run(batch: Batch) -> np.ndarray:
        with torch.no_grad(), torch.autocast("cuda", torch.float16, enabled=arithmetic == "float16"):
            return graph(torch.from_numpy(batch).cuda())[1].float().cpu().numpy()

    return run
