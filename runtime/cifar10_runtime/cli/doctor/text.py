"""The doctor's output for people."""

from collections.abc import Iterator, Mapping, Sequence

from cifar10_runtime.cli.doctor.installation import OPTIONAL_PACKAGES, Installation, Problem, Processors
from cifar10_runtime.cli.doctor.measurement import Answers, Measurement
from cifar10_runtime.cli.doctor.recommendation import LARGEST_LOSS, Recommendations
from cifar10_runtime.options import ClassifierOptions
from cifar10_runtime.version import NOT_INSTALLED

_ROW = "  {:<10}{:<10}{:>8}{:>11}{:>8}{:>12}{:>12}   {}"
TABLE_HEAD = _ROW.format("model", "device", "accuracy", "images/s", "batch", "p50", "p99", "answers")


def installation_lines(found: Installation) -> Iterator[str]:
    """Yield one line per fact."""
    yield _line("python", f"{found.python} on {found.system}")
    for name, version in found.packages.items():
        missing = f"{NOT_INSTALLED}; it {OPTIONAL_PACKAGES[name]}" if name in OPTIONAL_PACKAGES else NOT_INSTALLED
        yield _line(name, version or missing)
    yield _line("ONNX Runtime", _listed(found.runtimes) or NOT_INSTALLED)
    yield _line("execution providers", ", ".join(found.execution_providers) or "none")
    yield _line("CUDA on the system", ", ".join(found.cuda_libraries) or "not found")
    yield _line("CUDA from packages", _listed(found.cuda_packages) or "none")
    yield _line("processors", _processors(found.processors))
    yield _line("threads", str(found.processors.threads))
    for file in found.model_files:
        state = "damaged" if file.problem else "intact"
        yield _line(f"model {file.model}", f"{file.name}, SHA-256 {file.sha256[:16]}..., {state}")


def measurement_line(measured: Measurement) -> str:
    """Return the row of the table."""
    speed = measured.speed
    return _ROW.format(
        measured.model,
        measured.device,
        f"{measured.test_accuracy:.4f}",
        f"{speed.images_per_second:,.0f}",
        speed.batch_size,
        f"{speed.latency_p50_ms:.3f} ms",
        f"{speed.latency_p99_ms:.3f} ms",
        "right" if measured.answers.right else "wrong",
    )


def recommendation_lines(recommendations: Recommendations) -> Iterator[str]:
    """Yield how to get the highest throughput and the lowest latency; nothing if no model can be recommended."""
    throughput, latency = recommendations.throughput, recommendations.latency
    if not (throughput and latency):
        return
    for goal, best, speed in (
        ("throughput", throughput, f"{throughput.measurement.speed.images_per_second:,.0f} images/s"),
        ("latency", latency, f"{latency.measurement.speed.latency_p50_ms:.3f} ms per image"),
    ):
        yield f"{goal}: {best.use}  ({speed}; top-1 accuracy {best.measurement.test_accuracy:.4f})"
    yield (
        f"Both are the fastest of the models that lose at most {100 * LARGEST_LOSS:g} percentage points of accuracy "
        f"against {ClassifierOptions.model}."
    )


def verdict_lines(problems: Sequence[Problem]) -> Iterator[str]:
    """Yield one line per problem and a last line."""
    for problem in problems:
        yield f"! {problem.subject:<26}{problem.advice}"
    yield "the lines that start with ! say what to do" if problems else "all is well"


def wrong_answers(answers: Answers) -> str:
    """Return what is wrong with ``answers`` and what to do."""
    return (
        f"wrong answers: the top-1 prediction of {answers.different_top1} of {answers.images} images differs, "
        f"log-probabilities by up to {answers.largest_difference:.2g} (rounding explains {answers.tolerance:g}); "
        "reinstall ONNX Runtime, or use another version, model or device, and report it"
    )


def _line(subject: str, text: str) -> str:
    return f"  {subject:<28}{text}"


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _processors(found: Processors) -> str:
    limit = "no cgroup limit" if found.cgroup is None else f"{found.cgroup:g} by cgroup"
    return f"{found.machine or 'unknown'} in the machine, {found.affinity} by affinity, {limit}"
