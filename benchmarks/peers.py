"""What we are measured against, and how: peers run in turn with ours, in one process, on the same inputs."""

import time
from collections.abc import Callable
from statistics import median

import onnxruntime
import torch
from cifar10_export import ServingGraph
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn
from torch.nn import functional as F

from cifar10_zoo.config import Precision
from cifar10_zoo.model import Cifar10Net

ROUNDS = 30


def compare(benchmark: BenchmarkFixture, ours: Callable[[], object], peer: Callable[[], object], images: int) -> None:
    """Time ``ours`` and, before each of its rounds, ``peer``; report images/s of both and the ratio of the medians."""
    seconds = []

    def time_peer() -> None:
        start = time.perf_counter()
        peer()
        seconds.append(time.perf_counter() - start)

    ours()
    peer()
    benchmark.pedantic(ours, setup=time_peer, rounds=ROUNDS)
    ours_median, peer_median = median_seconds(benchmark), median(seconds)
    benchmark.extra_info |= {
        "images_per_s": round(images / ours_median),
        "peer_images_per_s": round(images / peer_median),
        "times_the_peer": round(peer_median / ours_median, 2),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


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


def usual_export(path: str) -> onnxruntime.InferenceSession:
    """The plain network through torch.onnx.export, in a plain session."""
    model = ServingGraph(PlainNet()).eval()
    images = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    names = ["logits", "probabilities"]
    shapes = ({0: torch.export.Dim("N")},)
    program = torch.onnx.export(model, (images,), dynamic_shapes=shapes, input_names=["images"], output_names=names)
    assert program is not None
    program.save(path)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
