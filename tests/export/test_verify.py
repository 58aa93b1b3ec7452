"""Verification finds every kind of wrong file, and its errors carry the measured difference."""

import numpy as np
import onnx
import pytest
import torch
from cifar10_export import ServingGraph, Variant, VerificationError, build, verify
from cifar10_export.exporter import Images
from cifar10_export.variants import Precision
from cifar10_export.verify import ContractError, DifferenceError, open_session, verify_final, verify_top1

from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.training.inference import predict
from tests.helpers.onnx_files import metadata_of, negate_last_layer, session

DEFAULT = Variant()


def test_a_wrong_weight_is_found(content: bytes, network: Cifar10Net) -> None:
    verify(content, network, DEFAULT)
    with torch.no_grad():
        network.conv2.weight[0, 0, 0, 0] += 0.01
    with pytest.raises(DifferenceError, match=r"logits of a batch of 1 differ from PyTorch by \d") as error:
        verify(content, network, DEFAULT)
    assert error.value.difference > error.value.tolerance >= 1e-5


def test_a_wrong_name_is_found(content: bytes, network: Cifar10Net) -> None:
    model = onnx.load_from_string(content)
    model.graph.output[1].name = model.graph.node[-1].output[0] = "probability"
    with pytest.raises(ContractError, match="probability"):
        verify(model.SerializeToString(), network, DEFAULT)


def test_a_wrong_shape_is_found(content: bytes, network: Cifar10Net) -> None:
    model = onnx.load_from_string(content)
    rows = onnx.numpy_helper.from_array(np.array([0]), "rows")
    model.graph.initializer.append(rows)
    model.graph.node[-1].output[0] = "all_rows"
    model.graph.node.append(onnx.helper.make_node("Gather", ["all_rows", "rows"], ["probabilities"], axis=0))
    model.graph.output[1].type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(ContractError, match=r"probabilities has shape \(1, 10\) for a batch of 2"):
        verify(model.SerializeToString(), network, DEFAULT)


@pytest.mark.parametrize("size", [0, 1000, -1], ids=["empty", "1,000 bytes", "all but the last byte"])
def test_a_truncated_file_is_found(content: bytes, size: int) -> None:
    with pytest.raises(ContractError, match="not a valid ONNX model"):
        open_session(content[:size])


def test_wrong_metadata_is_found_in_the_final_file(content: bytes, network: Cifar10Net) -> None:
    metadata = metadata_of(content)
    verify_final(content, network, DEFAULT, metadata)
    with pytest.raises(ContractError, match=r"metadata .*'step': '60'.*, expected .*'step': '61'"):
        verify_final(content, network, DEFAULT, metadata | {"step": "61"})


def test_a_wrong_weight_is_found_in_the_final_file(content: bytes, network: Cifar10Net) -> None:
    with pytest.raises(DifferenceError, match=r"logits of a batch of 2 differ from PyTorch by \d"):
        verify_final(negate_last_layer(content), network, DEFAULT, metadata_of(content))


def test_one_image_with_another_top1_prediction_is_found(
    content: bytes, network: Cifar10Net, few_images: Images
) -> None:
    """A bias changes by just enough to change the closest of all predictions by more than rounding may."""
    assert few_images.test is not None
    logits = predict(network, few_images.test.images)
    best, second = logits.topk(2, dim=1).values.T
    closest = float((best - second).min())
    with torch.no_grad():
        network.softmax_linear.bias[int(logits[(best - second).argmin()].argmax())] -= closest + 1e-4
    message = r"the top-1 prediction for \d+ of 150 images differs from PyTorch"
    with pytest.raises(VerificationError, match=message) as error:
        verify_top1(session(content), ServingGraph(network).eval(), few_images.test, "fp32")
    assert isinstance(error.value, DifferenceError)
    assert error.value.difference >= 1


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_loss_of_accuracy_is_found(
    content: bytes, network: Cifar10Net, few_images: Images, precision: Precision
) -> None:
    assert few_images.test is not None
    wrong = session(negate_last_layer(content))
    message = f"in {precision} is 0.*, in PyTorch 0.*: that loses more than"
    with pytest.raises(DifferenceError, match=message) as error:
        verify_top1(wrong, ServingGraph(network).eval(), few_images.test, precision)
    assert error.value.difference > error.value.tolerance > 0


def test_int8_verification_compares_test_images_not_random_ones() -> None:
    """The images have one color each: calibrated on them, int8 is exact for them and far off for random pixels."""
    network, int8 = Cifar10Net(classes=2).eval(), Variant("int8", "direct")
    with torch.no_grad():  # so that random pixels give large logits
        network.conv1.weight.mul_(100)
        network.softmax_linear.weight.mul_(10)
    images = torch.arange(0, 256, 8, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 32, 32)
    data = Dataset("custom", ("a", "b"), images, torch.zeros(len(images), dtype=torch.int64))
    content = build(network, int8, images).SerializeToString()
    verify(content, network, int8, data)
    verify_final(content, network, int8, {}, data)
    different = pytest.raises(DifferenceError, match=r"logits of a batch of \d differ from PyTorch")
    with different:  # without data, random pixels are compared
        verify(content, network, int8)
    with different:
        verify_final(content, network, int8, {})
