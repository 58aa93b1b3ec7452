"""The graph that is served: raw pixels in, probabilities out."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from torch import Tensor, nn

from cifar10_zoo.dataset import IMAGE_SHAPE
from cifar10_zoo.inputs import evaluation_images
from cifar10_zoo.model import Cifar10Net

OPSET = 18
"""The oldest ONNX operator set that PyTorch's exporter writes, for the widest choice of runtimes."""
INPUT = "images"
OUTPUTS = ("logits", "probabilities")


class ServingGraph(nn.Module):
    """The network behind its preprocessing.

    Crop and standardization are part of the graph, so that every client, in any language, gets the same answer from
    the same pixels.
    """

    def __init__(self, model: Cifar10Net) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and probabilities, [N, 10] float32 each, of ``images`` [N, 32, 32, 3] uint8 RGB."""
        logits = self.model(evaluation_images(images.permute(0, 3, 1, 2)))
        return logits, logits.softmax(dim=1)


def build(model: Cifar10Net) -> onnx.ModelProto:
    """The serving graph of ``model`` as an ONNX model for any batch size, without metadata."""
    channels, height, width = IMAGE_SHAPE
    example = torch.zeros(2, height, width, channels, dtype=torch.uint8)
    graph = ServingGraph(model).eval()
    with _quiet_exporter():
        program = torch.onnx.export(
            graph,
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
def _quiet_exporter() -> Iterator[None]:
    """The exporter tells of its progress on stdout and in warnings that say nothing to our users."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _remove_traces_of_this_machine(model: onnx.ModelProto) -> None:
    """The exporter notes in each node and value where in the source it comes from, with paths."""
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del item.metadata_props[:]
        item.doc_string = ""
    del model.graph.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
