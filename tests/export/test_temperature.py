"""A calibrated checkpoint: the model divides the logits by the temperature, in every variant."""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from cifar10_export import ServingGraph, Variant
from cifar10_export.exporter import ExportedModel, Images, export_checkpoint
from cifar10_export.graph import to_onnx
from cifar10_export.verify import VALUE_TOLERANCE, DifferenceError, verify_values

from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.training.checkpoint import Checkpoint
from tests.export.test_variants import VARIANTS
from tests.helpers.onnx_files import few_verified, metadata_of, session

TEMPERATURES = {1: 0.5, 10: 0.3}


@pytest.mark.parametrize("variant", {"fp32": Variant(), **VARIANTS}.values(), ids=["fp32", *VARIANTS])
def test_probabilities_are_the_softmax_of_logits_over_temperature(
    trained: Checkpoint,
    few_images: Images,
    content: bytes,
    export_of: Callable[[Variant], ExportedModel],
    variant: Variant,
) -> None:
    assert few_images.test is not None
    calibrated = replace(trained, temperatures=TEMPERATURES)
    pixels = few_images.test.images[:50].permute(0, 2, 3, 1).contiguous().numpy()
    with few_verified():
        scaled = export_checkpoint(calibrated, variant, replace(few_images, test=None)).content
    plain = content if variant == Variant() else export_of(variant).content
    (plain_logits, plain_probabilities, _), (logits, probabilities, _) = (
        session(content).run(None, {"images": pixels}) for content in (plain, scaled)
    )

    temperature = TEMPERATURES[10 if variant.ten_crop else 1]
    powers = np.exp((logits - logits.max(1, keepdims=True)).astype(np.float64) / temperature)
    np.testing.assert_array_equal(logits, plain_logits)
    np.testing.assert_allclose(probabilities, powers / powers.sum(1, keepdims=True), atol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(1), plain_probabilities.argmax(1))
    assert (metadata_of(plain)["temperature"], metadata_of(scaled)["temperature"]) == ("1.0", str(temperature))


def test_verification_compares_probabilities_with_those_of_the_files_own_logits() -> None:
    """A small error of logits, which int8 may have, changes probabilities much if the temperature is low."""
    network = Cifar10Net()
    network.softmax_linear.weight.data.zero_()
    network.softmax_linear.bias.data = torch.tensor([3.0, 2.9, *8 * [0.0]])
    images = np.zeros((2, 32, 32, 3), np.uint8)
    reference = ServingGraph(network, temperature=0.05).eval()
    rounded = copy.deepcopy(network)
    rounded.softmax_linear.bias.data[0] -= 0.2

    verify_values(exported(ServingGraph(rounded, temperature=0.05)), reference, images, VALUE_TOLERANCE["int8"])
    with pytest.raises(DifferenceError, match="probabilities of a batch of 2 differ"):
        verify_values(exported(ServingGraph(network, temperature=0.1)), reference, images, VALUE_TOLERANCE["int8"])


def exported(graph: ServingGraph) -> onnxruntime.InferenceSession:
    return session(to_onnx(graph).SerializeToString())
