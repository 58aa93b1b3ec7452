"""The graphs that are served: raw pixels in, probabilities out."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from copy import deepcopy
from typing import Literal

import onnx
import torch
from torch import Tensor, nn

from cifar10_export.winograd import WinogradNet
from cifar10_zoo.data.cifar10 import IMAGE_SHAPE
from cifar10_zoo.data.transforms import evaluation_images, ten_crop
from cifar10_zoo.network.model import Cifar10Net, LocalResponseNorm

OPSET = 18
"""The oldest ONNX operator set that PyTorch's exporter writes, for the widest choice of runtimes."""
INPUT = "images"
OUTPUTS = ("logits", "probabilities")

Layout = Literal["winograd", "direct"]
Views = Literal[1, 10]


class ServingGraph(nn.Module):
    """A network behind its preprocessing.

    Crop and standardization are part of the graph, so that every client, in any language, gets the same answer from
    the same pixels.

    Args:
        network: [N, 3, 24, 24] float32 -> logits [N, 10] float32.
        views: 1 for the centre of each image; 10 for the average of centre and corners, each mirrored too.
    """

    def __init__(self, network: nn.Module, views: Views = 1) -> None:
        super().__init__()
        self.network = network
        self.views = views

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and probabilities, [N, 10] float32 each, of ``images`` [N, 32, 32, 3] uint8 RGB.

        Of ten views, the probabilities are the average, and the logits are what softmax makes that of.
        """
        images = images.permute(0, 3, 1, 2)
        if self.views == 1:
            logits = self.network(evaluation_images(images))
            return logits, logits.softmax(dim=1)
        logits = self.network(ten_crop(images).flatten(0, 1))
        probabilities = logits.softmax(dim=1).unflatten(0, (self.views, -1)).mean(dim=0)
        return probabilities.log(), probabilities


class HalfNet(nn.Module):
    """``model`` with float16 weights and activations, from float32 images to float32 logits."""

    def __init__(self, model: Cifar10Net) -> None:
        super().__init__()
        self.model = deepcopy(model)
        for name, norm in (("norm1", model.norm1), ("norm2", model.norm2)):
            setattr(self.model, name, _HalfNorm(norm))
        self.model.half()

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, 10] of ``images`` [N, 3, 24, 24], standardized."""
        logits: Tensor = self.model(images.half())
        return logits.float()


class _HalfNorm(nn.Module):
    """Local response normalization that squares small numbers: those of activations above 256 exceed float16."""

    def __init__(self, norm: LocalResponseNorm) -> None:
        super().__init__()
        self.scale = norm.alpha**0.5
        self.band = nn.Parameter(norm.band / norm.alpha, requires_grad=False)
        self.biases = nn.Parameter(norm.biases, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        small = x * self.scale
        d = nn.functional.conv2d(small * small, self.band, self.biases)
        return x / torch.sqrt(d * torch.sqrt(d))


def build(model: Cifar10Net, layout: Layout = "direct", views: Views = 1) -> onnx.ModelProto:
    """The serving graph of ``model`` in float32; both layouts give the same numbers, to the rounding of float32."""
    return to_onnx(ServingGraph(WinogradNet(model) if layout == "winograd" else model, views))


def build_half(model: Cifar10Net, views: Views = 1) -> onnx.ModelProto:
    """The serving graph of ``model`` that computes in float16 between standardization and logits."""
    return to_onnx(ServingGraph(HalfNet(model), views))


def to_onnx(graph: ServingGraph) -> onnx.ModelProto:
    """``graph`` as an ONNX model for any batch size, without metadata."""
    channels, height, width = IMAGE_SHAPE
    example = torch.zeros(2, height, width, channels, dtype=torch.uint8)
    with quiet():
        program = torch.onnx.export(
            graph.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            input_names=[INPUT],
            output_names=OUTPUTS,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    exported = program.model_proto
    _remove_traces_of_this_machine(exported)
    onnx.checker.check_model(exported, full_check=True)
    return exported


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporters tell of their progress on stdout and in warnings that say nothing to our users."""
    loggers = [logging.getLogger(), logging.getLogger("torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _remove_traces_of_this_machine(model: onnx.ModelProto) -> None:
    """The exporter notes in each node and value where in the source it comes from, with paths."""
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del item.metadata_props[:]
        item.doc_string = ""
    del model.graph.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
