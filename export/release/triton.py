"""Write a model into a model repository of NVIDIA Triton Inference Server."""

import shutil
from pathlib import Path

import onnx

MAX_BATCH_SIZE = 1024
# The first line is a comment in config.pbtxt, for the administrator of the server.
_ON_CPU = """\
# Set count to the number of cores: many instances on small batches are faster than one instance on all cores.
instance_group [{ kind: KIND_CPU count: 2 }]
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
dynamic_batching { preferred_batch_size: [ 32 ] max_queue_delay_microseconds: 500 }
"""
_ON_GPU = """\
instance_group [{ kind: KIND_GPU count: 1 }]
dynamic_batching { preferred_batch_size: [ 256, 1024 ] max_queue_delay_microseconds: 500 }
"""


def write(folder: Path, source: Path, model: onnx.ModelProto, labels: str, on_gpu: bool) -> None:
    """Write the model ``source`` to ``folder``, as version 1, with its configuration and its labels.

    Args:
        folder: The folder of the model in the repository; its name is the name of the model.
        source: The .onnx file.
        model: The content of ``source``.
        labels: The class names, one per line.
        on_gpu: Whether the server runs the model on a GPU.
    """
    (folder / "1").mkdir(parents=True)
    shutil.copyfile(source, folder / "1" / "model.onnx")
    (folder / "labels.txt").write_text(labels, encoding="utf-8")
    (folder / "config.pbtxt").write_text(model_configuration(folder.name, model.graph, on_gpu), encoding="utf-8")


def model_configuration(name: str, graph: onnx.GraphProto, on_gpu: bool) -> str:
    """Return the config.pbtxt of a model: raw pixels uint8 in, logits, probabilities and features float32 out.

    The dims lack the first dimension, the batch size, which the server adds when it gathers requests into batches.

    Source: ``model_config.proto`` of Triton, and the README of its ONNX Runtime backend.
    """
    (image,), (classes, _, features) = (map(_dimensions, values) for values in (graph.input, graph.output))
    return f"""\
name: "{name}"
backend: "onnxruntime"
max_batch_size: {MAX_BATCH_SIZE}
input [{{ name: "images" data_type: TYPE_UINT8 dims: [ {image} ] }}]
output [
  {{ name: "logits" data_type: TYPE_FP32 dims: [ {classes} ] }},
  {{ name: "probabilities" data_type: TYPE_FP32 dims: [ {classes} ] label_filename: "labels.txt" }},
  {{ name: "features" data_type: TYPE_FP32 dims: [ {features} ] }}
]
{_ON_GPU if on_gpu else _ON_CPU}"""


def _dimensions(value: onnx.ValueInfoProto) -> str:
    """Return the dimensions of ``value`` without the batch size."""
    _, *dimensions = value.type.tensor_type.shape.dim
    return ", ".join(str(dimension.dim_value) for dimension in dimensions)
