"""The shipped models through Classifier, on the CPU, against what one would use instead, with the same weights."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from cifar10_runtime import Classifier
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.peers import (
    Batch,
    Run,
    compare,
    openvino,
    plain_graph,
    timed,
    torch_compiled,
    torch_eager,
    usual_export,
    usual_session,
)

IMAGES = 512
"""Images a round, in batches of the size in question."""
MACS = 24 * 24 * 64 * 75 + 12 * 12 * 64 * 1600 + 2304 * 384 + 384 * 192 + 192 * 10
"""Multiplications of one image, by direct convolution."""


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The usual export as a file."""
    return usual_export(tmp_path_factory.mktemp("peer") / "usual.onnx")


@pytest.fixture(scope="module")
def peers(usual: Path) -> dict[str, Run]:
    """Everything that we are compared with."""
    peers = {"usual export": usual_session(usual), "torch": torch_eager(), "torch.compile": torch_compiled()}
    if importlib.util.find_spec("openvino"):
        peers["openvino"] = openvino(usual, "THROUGHPUT")
    return peers


@pytest.fixture(scope="module")
def ours() -> Iterator[dict[str, Run]]:
    """The shipped models, each as exact as it says."""
    models = {name: Classifier(name, device="cpu") for name in ("fp32", "int8", "fp16")}
    yield {name: model.probabilities for name, model in models.items()}
    for model in models.values():
        model.close()


def random_images(count: int) -> Batch:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def repeated(run: Run, batch_size: int) -> Callable[[], None]:
    """Runs all ``IMAGES`` in batches."""
    batch, times = random_images(batch_size), max(1, IMAGES // batch_size)

    def repeat() -> None:
        for _ in range(times):
            run(batch)

    return repeat


@pytest.mark.benchmark(group="model alone")
@pytest.mark.parametrize("batch_size", [1, 8, 32, 128, 512])
def test_throughput(benchmark: BenchmarkFixture, ours: dict[str, Run], peers: dict[str, Run], batch_size: int) -> None:
    contestants = {name: repeated(run, batch_size) for name, run in {**ours, **peers}.items()}
    compare(benchmark, contestants, IMAGES)
    benchmark.extra_info["batch"] = batch_size


@pytest.mark.benchmark(group="latency of one image")
def test_latency(benchmark: BenchmarkFixture, ours: dict[str, Run], peers: dict[str, Run], usual: Path) -> None:
    """Single calls, all in turn; p50, p95 and p99 in microseconds."""
    image = random_images(1)
    runs = {**ours, **peers}
    if "openvino" in runs:
        runs["openvino"] = openvino(usual, "LATENCY")
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(image)

    def one_round() -> None:
        for name, run in runs.items():
            times[name] += [timed(lambda run=run: run(image)) for _ in range(20)]  # type: ignore[misc]

    benchmark.pedantic(one_round, rounds=100, warmup_rounds=1)
    for percentile in (50, 95, 99):
        values = {name: round(float(np.percentile(t, percentile)) * 1e6) for name, t in times.items()}
        benchmark.extra_info[f"p{percentile}_us"] = values


@pytest.mark.benchmark(group="roofline")
def test_roofline(benchmark: BenchmarkFixture, ours: dict[str, Run]) -> None:
    """What a product of two large float32 matrices reaches, in turn with the models: multiplications/s of both."""
    size = 1536
    a, b = torch.randn(size, size), torch.randn(size, size)
    runs = {name: repeated(ours[name], 32) for name in ("fp32", "int8")}
    times: dict[str, list[float]] = {name: [] for name in ("matrix product", *runs)}

    def one_round() -> None:
        times["matrix product"].append(timed(lambda: a @ b))
        for name, run in runs.items():
            times[name].append(timed(run))

    one_round()
    benchmark.pedantic(one_round, rounds=30)
    peak = size**3 / float(np.median(times["matrix product"]))
    benchmark.extra_info["peak_gmacs"] = round(peak / 1e9, 1)
    benchmark.extra_info["images_per_s_at_peak"] = round(peak / MACS)
    for name in runs:
        reached = IMAGES / float(np.median(times[name]))
        benchmark.extra_info[f"{name}_of_peak"] = round(reached * MACS / peak, 2)


@pytest.mark.benchmark(group="model alone on CUDA")
@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers() or not torch.cuda.is_available(),
    reason="needs onnxruntime-gpu and a CUDA GPU",
)
@pytest.mark.parametrize("batch_size", [1, 8, 64, 512, 8192])
def test_throughput_on_cuda(benchmark: BenchmarkFixture, usual: Path, batch_size: int) -> None:
    """Copies to and from the GPU included, in ours and in all peers."""
    ours: dict[str, Run] = {
        "fp32": Classifier("fp32", device="cuda").probabilities,
        "fp32 in TF32": Classifier("fp32", device="cuda", tf32=True).probabilities,
        "fp16": Classifier("fp16", device="cuda").probabilities,
    }
    plain = onnxruntime.InferenceSession(usual, providers=["CUDAExecutionProvider"])
    eager = plain_graph().cuda()
    compiled = torch.compile(eager, dynamic=True)

    def in_torch(graph: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> Run:
        def run(batch: Batch) -> object:
            with torch.no_grad():
                return graph(torch.from_numpy(batch).cuda())[1].cpu().numpy()

        return run

    peers: dict[str, Run] = {
        "usual export": lambda batch: plain.run(["probabilities"], {"images": batch}),
        "torch": in_torch(eager),
        "torch.compile": in_torch(compiled),
    }
    contestants = {name: repeated(run, batch_size) for name, run in {**ours, **peers}.items()}
    compare(benchmark, contestants, max(IMAGES, batch_size))
    benchmark.extra_info |= {"batch": batch_size, "gpu": torch.cuda.get_device_name()}
    eager.cpu()
