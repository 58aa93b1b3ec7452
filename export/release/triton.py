"""Configurations of NVIDIA Triton Inference Server for the served graphs."""

MAX_BATCH_SIZE = 1024
_ON_CPU = """\
# As many instances as cores: independent ones on small batches are faster than one on all of them.
instance_group [{ kind: KIND_CPU count: 2 }]
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
dynamic_batching { preferred_batch_size: [ 32 ] max_queue_delay_microseconds: 500 }
"""
_ON_GPU = """\
instance_group [{ kind: KIND_GPU count: 1 }]
dynamic_batching { preferred_batch_size: [ 256, 1024 ] max_queue_delay_microseconds: 500 }
"""


def model_configuration(name: str, on_gpu: bool) -> str:
    """config.pbtxt of a model: raw pixels [32, 32, 3] uint8 in, logits and probabilities [10] float32 out.

    Requests are put together to batches; the first dimension, which Triton adds, is the number of images.

    Source: ``model_config.proto`` of Triton, and the README of its ONNX Runtime backend.
    """
    return f"""\
name: "{name}"
backend: "onnxruntime"
max_batch_size: {MAX_BATCH_SIZE}
input [{{ name: "images" data_type: TYPE_UINT8 dims: [ 32, 32, 3 ] }}]
output [
  {{ name: "logits" data_type: TYPE_FP32 dims: [ 10 ] }},
  {{ name: "probabilities" data_type: TYPE_FP32 dims: [ 10 ] label_filename: "labels.txt" }}
]
{_ON_GPU if on_gpu else _ON_CPU}"""
