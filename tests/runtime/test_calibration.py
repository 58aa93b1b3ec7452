"""The report's reliability diagram, calibration error and thresholds agree with an independent computation."""

import re

import numpy as np
import pytest
from cifar10_runtime import Prediction
from cifar10_runtime.engine.models import golden
from cifar10_runtime.results.calibration import BINS, THRESHOLDS, Calibration
from cifar10_runtime.results.page import Report
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.runtime.test_report import Page

CLASSES = tuple("0123456789")


def counted(confidences: NDArray[np.float64], correct: NDArray[np.bool_]) -> Calibration:
    calibration = Calibration()
    for confidence, is_correct in zip(confidences.tolist(), correct.tolist(), strict=True):
        calibration.add(confidence, is_correct)
    return calibration


def in_bin(confidences: NDArray[np.float64], number: int) -> NDArray[np.bool_]:
    """Whether each confidence is in (number/15, (number+1)/15]; the first bin also has 0."""
    after = confidences > number / BINS if number else confidences >= 0
    return after & (confidences <= (number + 1) / BINS)


def expected_error(confidences: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """The formula of Guo et al. 2017, term by term."""
    error = 0.0
    for number in range(BINS):
        chosen = in_bin(confidences, number)
        if chosen.any():
            error += chosen.mean() * abs(correct[chosen].mean() - confidences[chosen].mean())
    return error


@pytest.fixture(scope="module")
def real() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Confidence and class that fp32 gives each of 100 images, and as the truth the class that views10 gives."""
    logits = golden().logits["fp32.onnx"].astype(np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shares / shares.sum(axis=1, keepdims=True)
    return probabilities.max(axis=1), logits.argmax(axis=1), golden().logits["views10.onnx"].argmax(axis=1)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.floats(0, 1, width=32) | st.sampled_from((*THRESHOLDS, 2 / 15, 1 / 3)), st.booleans())))
def test_bins_error_and_kept_images_are_those_of_numpy(images: list[tuple[float, bool]]) -> None:
    confidences = np.array([confidence for confidence, _ in images], float)
    correct = np.array([is_correct for _, is_correct in images], bool)
    calibration = counted(confidences, correct)
    assert (calibration.images, calibration.correct) == (len(images), correct.sum())
    for number, place in enumerate(calibration.bins):
        chosen = in_bin(confidences, number)
        assert (place.images, place.correct) == (chosen.sum(), correct[chosen].sum())
        assert place.confidence == pytest.approx(confidences[chosen].sum())
    for kept in calibration.kept():
        chosen = confidences >= kept.threshold
        assert (kept.images, kept.correct) == (chosen.sum(), correct[chosen].sum())
    if images:
        assert calibration.error == pytest.approx(expected_error(confidences, correct))


def test_the_error_of_a_known_case_is_the_distance_of_confidence_and_accuracy() -> None:
    """Eight of ten answers are right at a confidence of 0.9, five of ten at 0.5."""
    confidences = np.repeat([0.9, 0.5], 10)
    correct = np.array([True] * 8 + [False] * 2 + [True, False] * 5)
    assert counted(confidences, correct).error == pytest.approx((0.1 * 10 + 0 * 10) / 20)


@pytest.mark.parametrize("unknown_below", [0.0, 0.75], ids=["every image has a class", "unknown images"])
def test_the_page_shows_the_numbers_of_numpy_for_predictions_of_the_models(
    real: tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]], unknown_below: float
) -> None:
    """Unknown images count with their most probable class, so the page shows what other thresholds would give."""
    confidences, answers, truths = real
    report = Report(CLASSES, unknown_label="unknown" if unknown_below else "")
    for number, (confidence, answer, truth) in enumerate(zip(confidences, answers, truths, strict=True)):
        unknown_label = "unknown" if confidence < unknown_below else ""
        ranking = ((CLASSES[answer], float(confidence)),)
        report.add(Prediction(f"{truth}/{number}.png", ranking, unknown_label=unknown_label))
    shown = Page(report.html("", {}))
    correct = answers == truths
    assert shown.inside("p", "b") == [f"{expected_error(confidences, correct):.4f}"]
    titles = []
    for number in range(BINS):
        chosen = in_bin(confidences, number)
        if images := int(chosen.sum()):
            titles.append(
                f"{number / BINS:.1%} to {(number + 1) / BINS:.1%}: {images} image{'s' * (images != 1)} "
                f"({chosen.mean():.1%}), mean confidence {confidences[chosen].mean():.1%}, "
                f"accuracy {correct[chosen].mean():.1%}"
            )
    assert shown.inside("svg", "g", "title") == titles
    table = shown.html.split('class="thresholds"')[1].split("</table>")[0]
    rows = re.findall(r'<th scope="row">([^<]*)</th><td>([^<]*).*?</td><td>([^<]*)</td>', table)
    assert rows == [("none", "100.00%", f"{correct.mean():.2%}")] + [
        (str(threshold), f"{chosen.mean():.2%}", f"{correct[chosen].mean():.2%}" if chosen.any() else "—")
        for threshold in THRESHOLDS
        for chosen in [confidences >= threshold]
    ]


def test_the_bars_and_frames_of_the_diagram_have_the_heights_of_accuracy_and_confidence() -> None:
    report = Report(("cat", "dog"))
    for number in range(4):
        report.add(Prediction(f"{'cat' if number else 'dog'}/{number}.png", (("cat", 0.9),)))
    rects = re.findall(
        r'<rect class="(\w+)" x="[\d.]+" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', report.html("", {})
    )
    assert rects == [("accuracy", "75.0", "225.0"), ("gap", "30.0", "45.0"), ("share", "340.0", "60.0")]


def test_images_outside_class_folders_give_no_calibration() -> None:
    report = Report(("cat", "dog"))
    report.add(Prediction("elsewhere/a.png", (("cat", 0.9),)))
    assert "Calibration" not in Page(report.html("", {})).inside("h2")
