"""The serving graph: raw pixels in; logits, probabilities and features out."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Protocol

import onnx
import torch
from torch import Tensor, nn

from cifar10_zoo.data.transforms import evaluation_images, ten_crop

OPSET = 18
"""The oldest ONNX operator set that PyTorch's exporter writes: the widest choice of runtimes."""
INPUT = "images"
OUTPUTS = ("logits", "probabilities", "features")
TEN_CROP = 10
"""Crops per image in ten-crop test-time augmentation."""


class Network(Protocol):
    """A network of the export: any way to compute ``Cifar10Net``."""

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return local4 [N, 192] and the logits [N, classes], float32, of ``images`` [N, 3, K, K] float32."""


class ServingGraph(nn.Module):
    """A network with its preprocessing.

    Crop and standardization are part of the graph. So every client, in any language, gets the same answer from the
    same pixels.

    Args:
        network: Computes features and logits of standardized crops.
        ten_crop: Average the probabilities and the features of ten crops per image, instead of using the center crop.
        image_size: S, height and width in pixels of the images; the network takes crops of K = 3/4 S pixels.
        temperature: T in probabilities = softmax(logits / T).
    """

    def __init__(
        self, network: Network, ten_crop: bool = False, image_size: int = 32, temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.network = network
        self.ten_crop = ten_crop
        self.image_size = image_size
        self.temperature = temperature

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classify raw pixels.

        Args:
            images: [N, S, S, 3] uint8 RGB.

        Returns:
            Logits and probabilities, [N, classes] float32 each, and features [N, 192] float32, the output of local4.
            With ``ten_crop`` the logits are the logarithms of the averaged probabilities of the crops.
        """
        images = images.permute(0, 3, 1, 2)
        if not self.ten_crop:
            features, logits = self.network.features_and_logits(evaluation_images(images))
            return logits, self.probabilities(logits), features
        features, logits = self.network.features_and_logits(ten_crop(images).flatten(0, 1))  # [10 * N, ...]
        average, features = (_average(values) for values in (logits.softmax(dim=1), features))
        logits = average.log()
        return logits, average if self.temperature == 1 else self.probabilities(logits), features

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return softmax(logits / temperature); the temperature 1 adds no division to the graph."""
        return (logits if self.temperature == 1 else logits / self.temperature).softmax(dim=1)


def _average(values: Tensor) -> Tensor:
    """Return the average over the crops: [10 * N, columns] -> [N, columns]."""
    crops: Tensor = values.unflatten(0, (TEN_CROP, -1))
    return crops.mean(dim=0)


def to_onnx(graph: ServingGraph) -> onnx.ModelProto:
    """Convert ``graph`` to an ONNX model for any batch size, without metadata."""
    example = torch.zeros(2, graph.image_size, graph.image_size, 3, dtype=torch.uint8)
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
    model = program.model_proto  # each access converts the program again
    _remove_local_paths(model)
    return model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters' progress on stdout and their warnings, which a user can do nothing about."""
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


def _remove_local_paths(model: onnx.ModelProto) -> None:
    """Clear the notes of PyTorch's exporter on each node and value: they name source files of this machine."""
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del item.metadata_props[:]
        item.doc_string = ""
    del model.graph.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
