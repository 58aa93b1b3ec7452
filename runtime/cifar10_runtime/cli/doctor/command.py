"""Run the doctor: inspect the installation, measure each model on each device, recommend, print."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from cifar10_runtime.cli.doctor import text
from cifar10_runtime.cli.doctor.installation import Installation, Problem, inspect_installation
from cifar10_runtime.cli.doctor.measurement import Measurement, measure
from cifar10_runtime.cli.doctor.recommendation import Recommendations, recommend
from cifar10_runtime.engine.devices import available
from cifar10_runtime.engine.models import bundled, golden
from cifar10_runtime.errors import InferenceError

FORMAT = 1
"""Version of the JSON document. It changes if a field disappears or gets another meaning."""
_NOT_SUPPORTED = {("int8", "cuda")}
"""Precisions and devices that do not fit: ONNX Runtime's CUDA provider has no int8 convolution."""


def examine(as_json: bool = False) -> bool:
    """Print everything that the doctor finds, as text or as one JSON document; return whether all of it is good."""
    installation, problems = inspect_installation()
    measurements: list[Measurement] = []
    if not as_json:
        _print(*text.installation_lines(installation), "", text.TABLE_HEAD)
    for found in _measurements(available() if installation.execution_providers else []):
        if isinstance(found, Measurement):
            measurements.append(found)
            if not as_json:
                _print(text.measurement_line(found))
        elif all(found.advice != problem.advice for problem in problems):  # a broken device fails for each model
            problems.append(found)
    recommendations = recommend(measurements)
    if as_json:
        print(_document(installation, measurements, recommendations, problems))
    else:
        _print("", *text.recommendation_lines(recommendations), *text.verdict_lines(problems))
    return not problems


def _print(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)  # a measurement takes seconds, so each line appears at once


def _measurements(devices: Sequence[str]) -> Iterator[Measurement | Problem]:
    """Measure each bundled model on each device."""
    try:
        stored = golden()
    except InferenceError as error:
        yield Problem("stored answers", str(error))
        return
    for device in devices:
        for model, entry in bundled().items():
            if (entry["precision"], device) in _NOT_SUPPORTED:
                continue
            try:
                measured = measure(model, device, stored.images, stored.logits)
            except InferenceError as error:
                yield Problem(f"{model} on {device}", str(error))
                continue
            yield measured
            if not measured.answers.right:
                yield Problem(f"{model} on {device}", text.wrong_answers(measured.answers))


def _document(
    installation: Installation,
    measurements: Sequence[Measurement],
    recommendations: Recommendations,
    problems: Sequence[Problem],
) -> str:
    document = {
        "format": FORMAT,
        "good": not problems,
        "installation": asdict(installation),
        "measurements": [asdict(measurement) for measurement in measurements],
        "recommendations": asdict(recommendations),
        "problems": [asdict(problem) for problem in problems],
    }
    return json.dumps(document, indent=2, allow_nan=False)
