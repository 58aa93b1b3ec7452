"""What we are measured against, and how: all take turns, round by round, in one process, on the same inputs."""

import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime
import torch
from cifar10_export import ServingGraph
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture
from release.models import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from cifar10_zoo.config import Precision
from cifar10_zoo.network.model import Cifar10Net

ROUNDS = 30
Batch = NDArray[np.uint8]
Run = Callable[[Batch], object]


def compare(benchmark: BenchmarkFixture, contestants: Mapping[str, Callable[[], object]], images: int) -> None:
    """Time the first contestant, and before each of its rounds all others; report images/s of each, and the ratios."""
    (name, ours), *others = contestants.items()
    seconds: dict[str, list[float]] = {other: [] for other, _ in others}

    def time_others() -> None:
        for other, run in others:
            seconds[other].append(timed(run))

    for run in contestants.values():  # warm up
        run()
    benchmark.pedantic(ours, setup=time_others, rounds=ROUNDS)
    medians = {name: median_seconds(benchmark)} | {other: median(times) for other, times in seconds.items()}
    benchmark.extra_info |= {
        "images_per_s": {contestant: round(images / value) for contestant, value in medians.items()},
        f"times_faster_is_{name}": {other: round(medians[other] / medians[name], 2) for other in seconds},
    }


def timed(function: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def median_seconds(benchmark: BenchmarkFixture) -> float:
    """The median of the rounds that ``benchmark`` has timed."""
    assert benchmark.stats is not None, "benchmarks are disabled"
    return float(benchmark.stats.stats.median)


class PlainNet(Cifar10Net):
    """The same network as most would write it: PyTorch's local response norm, default memory layout."""

    def __init__(self) -> None:
        super().__init__()
        self.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        # PyTorch divides alpha by the size of the window, the tutorial does not: 0.001 / 9 * 9.
        self.norm1 = nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)  # type: ignore[assignment]
        self.norm2 = nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)  # type: ignore[assignment]


def plain_step(
    model: PlainNet, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, precision: Precision
) -> None:
    """A training step as most would write it, without the averages of weights and losses that ours keeps."""
    optimizer.zero_grad()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = model(images)
    loss = F.cross_entropy(logits.float(), labels)
    loss = loss + 0.002 * (model.local3.weight.square().sum() + model.local4.weight.square().sum())
    loss.backward()
    optimizer.step()


@cache
def plain_graph() -> ServingGraph:
    """The plain network with the weights of the shipped model fp32, behind its preprocessing."""
    model = PlainNet()
    shipped = {t.name: t for t in onnx.load(MODELS / "fp32-direct.onnx").graph.initializer}
    weights = {name: shipped[f"network.{name}"] for name in model.state_dict()}
    model.load_state_dict({name: torch.tensor(onnx.numpy_helper.to_array(t)) for name, t in weights.items()})
    return ServingGraph(model).eval()


def usual_export(path: Path) -> Path:
    """Write what torch.onnx.export makes of the plain network, for any batch size."""
    images = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    names = ["logits", "probabilities"]
    shapes = ({0: torch.export.Dim("N")},)
    program = torch.onnx.export(
        plain_graph(), (images,), dynamic_shapes=shapes, input_names=["images"], output_names=names
    )
    assert program is not None
    program.save(path)
    return path


def usual_session(path: Path) -> Run:
    """A plain ONNX Runtime session for that file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(["probabilities"], {"images": batch})[0]


def torch_eager() -> Run:
    """The plain network in PyTorch as it is."""
    graph = plain_graph()

    def run(batch: Batch) -> object:
        with torch.inference_mode():
            return graph(torch.from_numpy(batch))[1].numpy()

    return run


def torch_compiled() -> Run:
    """The plain network through torch.compile, once for all batch sizes."""
    graph = torch.compile(plain_graph(), dynamic=True)

    def run(batch: Batch) -> object:
        with torch.no_grad():
            return graph(torch.from_numpy(batch))[1].numpy()

    return run


def openvino(path: Path, hint: str) -> Run:
    """OpenVINO for the usual export, at the precision that it chooses, as many requests at once as it wants.

    Args:
        hint: ``THROUGHPUT`` or ``LATENCY``, what it is to be good at.
    """
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(path, "CPU", {"PERFORMANCE_HINT": hint})
    requests = openvino.AsyncInferQueue(compiled)
    results: dict[int, object] = {}
    requests.set_callback(lambda request, index: results.update({index: request.get_output_tensor(1).data.copy()}))

    def run(batch: Batch) -> object:
        parts = np.array_split(batch, min(len(requests), len(batch)))
        for index, part in enumerate(parts):
            requests.start_async({"images": part}, index)
        requests.wait_all()
        return np.concatenate([results[index] for index in range(len(parts))])

    return run
