"""The peers of our models, with the same weights, and of our training step."""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import torch
from cifar10_export import ServingGraph
from cifar10_export.graph import OUTPUTS
from cifar10_runtime.engine.threads import usable_processors
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, quant_pre_process, quantize_static
from release.models import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from cifar10_zoo.config import Precision
from cifar10_zoo.network.model import Cifar10Net

Batch = NDArray[np.uint8]
Run = Callable[[Batch], NDArray[np.float32]]
"""Returns the probabilities [N, classes] of images [N, 32, 32, 3]."""
Hint = Literal["THROUGHPUT", "LATENCY"]
"""What OpenVINO optimizes for."""


class PlainNet(Cifar10Net):
    """The tutorial's network in standard PyTorch: nn.LocalResponseNorm and the contiguous memory format."""

    def __init__(self) -> None:
        super().__init__()
        self.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        # PyTorch divides alpha by the size of the window, the tutorial does not: 0.001 / 9 * 9.
        self.norm1 = nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)  # type: ignore[assignment]
        self.norm2 = nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)  # type: ignore[assignment]


def plain_step(
    model: PlainNet, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, precision: Precision
) -> None:
    """Take a training step in standard PyTorch, without our EMA of the weights and of the losses."""
    optimizer.zero_grad()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = model(images)
    loss = F.cross_entropy(logits.float(), labels)
    loss = loss + 0.002 * (model.local3.weight.square().sum() + model.local4.weight.square().sum())
    loss.backward()
    optimizer.step()


@cache
def plain_graph() -> ServingGraph:
    """Return the plain network with the weights of the shipped model fp32, behind its preprocessing."""
    model = PlainNet()
    content = onnx.load(MODELS / "fp32-direct.onnx")
    shipped = {tensor.name: tensor for tensor in content.graph.initializer}
    (temperature,) = (float(entry.value) for entry in content.metadata_props if entry.key == "temperature")
    weights = {name: shipped[f"network.{name}"] for name in model.state_dict()}
    model.load_state_dict({name: torch.tensor(onnx.numpy_helper.to_array(t)) for name, t in weights.items()})
    return ServingGraph(model, temperature=temperature).eval()


def export_by_default(path: Path, graph: nn.Module | None = None) -> Path:
    """Write the default export, what torch.onnx.export makes of the plain network, for any batch size.

    Args:
        path: The file to write.
        graph: Another network, from images [N, 32, 32, 3] uint8 to logits and probabilities.
    """
    images = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    names = OUTPUTS[:2] if graph else OUTPUTS
    shapes = ({0: torch.export.Dim("N")},)
    program = torch.onnx.export(
        (graph or plain_graph()).eval(), (images,), dynamic_shapes=shapes, input_names=["images"], output_names=names
    )
    assert program is not None
    program.save(path)
    return path


def export_by_default_in_int8(default_export: Path, path: Path) -> Path:
    """Write what ONNX Runtime's static quantization makes of a float32 file, calibrated with 100 images."""
    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(default_export, prepared)
    quantize_static(prepared, path, RandomImages(100), per_channel=True)
    prepared.unlink()
    return path


class RandomImages(CalibrationDataReader):  # type: ignore[misc]
    """Random images, one per call; the speed of a quantized model does not depend on its calibration."""

    def __init__(self, count: int) -> None:
        images = np.random.default_rng(0).integers(0, 256, (count, 1, 32, 32, 3), dtype=np.uint8)
        self._batches = iter([{"images": image} for image in images])

    def get_next(self) -> dict[str, Batch] | None:
        """Return the next input of the model; None at the end."""
        return next(self._batches, None)


class ResNet8(nn.Module):
    """The network of MLPerf Tiny for CIFAR-10, with folded batch normalization: 78 thousand parameters, 12.5 M MACs.

    Its weights are random: it shows the speed of a small network, not its accuracy.

    https://github.com/mlcommons/tiny/blob/master/benchmark/training/image_classification/keras_model.py
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.Sequential(ResNetBlock(16, 16), ResNetBlock(16, 32), ResNetBlock(32, 64))
        self.last = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities [N, 10] of ``images`` [N, 32, 32, 3] uint8."""
        x = F.relu(self.first(images.permute(0, 3, 1, 2).float()))
        logits = self.last(self.blocks(x).mean(dim=(2, 3)))
        return logits, logits.softmax(1)


class ResNetBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; a block with more output channels halves height and width."""

    def __init__(self, channels: int, output_channels: int) -> None:
        super().__init__()
        stride = output_channels // channels
        self.conv1 = nn.Conv2d(channels, output_channels, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(output_channels, output_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, output_channels, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, output channels, H / stride, W / stride]."""
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


def plain_session(path: Path, provider: str = "CPUExecutionProvider", **options: str) -> Run:
    """Return a model file in ONNX Runtime with the default options of the session, and options of the provider."""
    session = onnxruntime.InferenceSession(path, providers=[(provider, options)])
    return lambda batch: session.run(["probabilities"], {"images": batch})[0]


def torch_eager() -> Run:
    """Return the plain network in PyTorch without compilation."""
    graph = plain_graph()

    def run(batch: Batch) -> NDArray[np.float32]:
        with torch.inference_mode():
            return graph(torch.from_numpy(batch))[1].numpy()  # type: ignore[no-any-return]

    return run


def torch_compiled() -> Run:
    """Return the plain network through torch.compile, compiled once for all batch sizes."""
    graph = torch.compile(plain_graph(), dynamic=True)

    def run(batch: Batch) -> NDArray[np.float32]:
        with torch.no_grad():
            return graph(torch.from_numpy(batch))[1].numpy()  # type: ignore[no-any-return]

    return run


class OpenVino:
    """A model file in OpenVINO: one stream per CPU, and as many asynchronous requests as there are streams.

    Args:
        path: An ONNX file with the outputs of our models.
        dtype: OpenVINO's name of the floating-point type to compute in; by default OpenVINO chooses one, bf16 where
            the CPU has it.
    """

    LARGEST_REQUEST = 32
    """Images per request at most; 16 to 32 are the fastest with our graphs."""

    def __init__(self, path: Path, hint: Hint, dtype: str | None = None) -> None:
        import openvino

        config: dict[str, object] = {"PERFORMANCE_HINT": hint}
        if hint == "THROUGHPUT":
            config |= {"NUM_STREAMS": usable_processors(), "INFERENCE_NUM_THREADS": usable_processors()}
        if dtype:
            config["INFERENCE_PRECISION_HINT"] = dtype
        model = openvino.Core().compile_model(path, "CPU", config)
        self.dtype = str(model.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        self._requests = openvino.AsyncInferQueue(model)
        self._requests.set_callback(self._keep)
        self._probabilities: dict[int, NDArray[np.float32]] = {}

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """Return the probabilities [N, classes] of images [N, 32, 32, 3]."""
        count = max(len(self._requests), math.ceil(len(batch) / self.LARGEST_REQUEST))
        parts = np.array_split(batch, min(count, len(batch)))
        for index, part in enumerate(parts):
            self._requests.start_async({"images": part}, index)
        self._requests.wait_all()
        return np.concatenate([self._probabilities[index] for index in range(len(parts))])

    def _keep(self, request: "object", index: int) -> None:
        # The request's memory is used again by a later part.
        self._probabilities[index] = request.get_tensor("probabilities").data.copy()  # type: ignore[attr-defined]


def openvino_runs(default_export: Path, hint: Hint) -> dict[str, Run]:
    """OpenVINO on the default export and on our graphs, by names that say file and dtype.

    Our graphs run in float32 and in the dtype that OpenVINO chooses; where this is float32, they run once.
    """
    chosen = OpenVino(default_export, hint)
    runs: dict[str, Run] = {f"OpenVINO on default export, {chosen.dtype}": chosen}
    for file in ("fp32.onnx", "fp32-direct.onnx", "int8.onnx"):
        for dtype in ("f32", None):
            run = OpenVino(MODELS / file, hint, dtype)
            runs[f"OpenVINO on {file}, {run.dtype}"] = run
    return runs
