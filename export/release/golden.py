"""golden.npz: the logits that each model file must give, computed without ONNX Runtime.

A client whose logits differ has a wrong kernel, driver or wheel. The references read the exported file, so they include
the rounding of its weights:

- Float models: ONNX's reference implementation, in float64.
- int8: sums of integer products, which are exact. ONNX's reference implementation adds rounded float32 products.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor
from torch.nn import functional as F

from cifar10_zoo import synthetic
from cifar10_zoo.data.transforms import evaluation_images

GOLDEN = "golden.npz"
IMAGES = 100
_BATCH = 10
"""Images that are computed together; the reference implementation takes 200 MB for ten crops of ten images."""
_LAYERS = (
    ("conv1", "div", "relu"),
    ("conv2", "relu", "relu_1"),
    ("local3", "relu_1", "relu_2"),
    ("local4", "relu_2", "features"),
)
"""The int8 layers. Before a layer and after it, activations have the scale and the zero point of these names."""


def format_golden(models: Mapping[str, bytes]) -> bytes:
    """Return the content of golden.npz for ``models``, the content of each model file by its name.

    The archive has ``images`` [100, 32, 32, 3] uint8 and, by the name of each file, its logits [100, classes] float32.
    """
    images = draw_images()
    logits = {name: reference_logits(content, images) for name, content in models.items()}
    archive = io.BytesIO()
    np.savez_compressed(archive, allow_pickle=False, images=images, **logits)
    return archive.getvalue()


def draw_images() -> NDArray[np.uint8]:
    """Return synthetic images [100, 32, 32, 3], ten of each class."""
    labels = np.arange(IMAGES, dtype=np.uint8) % 10
    return synthetic.draw(labels, np.random.default_rng(0)).transpose(0, 2, 3, 1).copy()


def reference_logits(content: bytes, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits [N, classes] of a model file for ``images`` [N, 32, 32, 3]."""
    model = onnx.load_from_string(content)
    is_int8 = any(tensor.data_type == TensorProto.INT8 for tensor in model.graph.initializer)
    logits = integer_logits(model, images) if is_int8 else float64_logits(model, images)
    return logits.astype(np.float32)


def float64_logits(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the logits of a float model, computed in float64 by ONNX's reference implementation."""
    evaluator = ReferenceEvaluator(_in_float64(model))
    batches = np.split(images, range(_BATCH, len(images), _BATCH))
    outputs: list[Any] = [evaluator.run(["logits"], {"images": batch}) for batch in batches]
    return np.concatenate([logits for (logits,) in outputs])


def _in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``model`` with float64 in place of float32 and float16."""
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        if tensor.data_type in floats:
            values = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in wide.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i in floats:
                attribute.i = TensorProto.DOUBLE
    return wide


@torch.inference_mode()
def integer_logits(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the logits of an int8 model: q = clamp(round(sums * scale) + zero point, 0, 255) after each int8 layer.

    The sums are integers below 2^53, so float64 holds them exactly, on every processor. Like QLinearConv in ONNX
    Runtime, the rounding multiplies the float32 sum by the float32 scale input * weight / output. The clamp is also the
    ReLU, because zero points after a ReLU are 0.
    """
    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
    x = evaluation_images(torch.from_numpy(images).permute(0, 3, 1, 2)) / tensors["div_scale"]
    x = _round(x, tensors["div_zero_point"])
    for layer, before, after in _LAYERS:
        name = f"network.{layer}"
        weight = tensors[f"{name}.weight_quantized"].double()
        bias = tensors[f"{name}.bias_quantized"].double()
        scale = tensors[f"{before}_scale"] * tensors[f"{name}.weight_scale"] / tensors[f"{after}_scale"]
        x = x - tensors[f"{before}_zero_point"]
        is_convolution = weight.ndim == 4
        if is_convolution:
            scale = scale[:, None, None]
            sums = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        else:
            sums = F.linear(x.flatten(1), weight, bias)
        x = _round(sums.float() * scale, tensors[f"{after}_zero_point"])
        if is_convolution:
            x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)
    x = (x - tensors["features_zero_point"]) * tensors["features_scale"].double()
    weight, bias = (tensors[f"network.softmax_linear.{kind}"].double() for kind in ("weight", "bias"))
    logits: NDArray[np.float64] = F.linear(x, weight, bias).numpy()
    return logits


def _round(x: Tensor, zero_point: Tensor) -> Tensor:
    """Return ``x`` as a quantized activation, an integer from 0 to 255, in float64."""
    return (x.round().double() + zero_point).clamp(0, 255)
