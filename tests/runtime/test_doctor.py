"""cifar10-infer doctor: it finds wrong answers, recommends what works here, and says what to do about a problem."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from cifar10_runtime import Classifier
from cifar10_runtime.cli.doctor import command, installation
from cifar10_runtime.cli.doctor.installation import Problem, Processors, inspect_installation
from cifar10_runtime.cli.doctor.measurement import Answers, Measurement, Speed, choose_batch_size, compare_answers
from cifar10_runtime.cli.doctor.recommendation import recommend
from cifar10_runtime.cli.doctor.text import installation_lines, verdict_lines
from cifar10_runtime.cli.parser import parser
from cifar10_runtime.engine.models import FOLDER, bundled, golden
from cifar10_runtime.version import NOT_INSTALLED
from onnx import numpy_helper
from release.golden import integer_logits

from tests.helpers.command_line import ROOT, SHORT_DOCTOR, assert_fails_cleanly, infer, run
from tests.helpers.processors import NO_QEMU, QEMU

FILES = sorted(FOLDER.glob("*.onnx"))


def documented_fields() -> dict[str, set[str]]:
    """The fields of each object in the JSON document, from the table of the page."""
    page = (ROOT / "docs" / "cifar10-infer.md").read_text(encoding="utf-8")
    table = page.partition("| object | fields |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = [re.findall("`([^`]+)`", row) for row in table.splitlines()]
    return {object_name: set(fields) for object_name, *fields in rows}


def fields_of(value: Any, name: str) -> Iterator[tuple[str, set[str]]]:
    """Yield the name and the fields of each object in a JSON document."""
    if isinstance(value, dict) and name.rpartition(".")[2] not in ("packages", "runtimes", "cuda_packages"):
        yield name, set(value)
        for field, inner in value.items():
            yield from fields_of(inner, field if name == "document" else f"{name}.{field}")
    elif isinstance(value, list):
        for inner in value:
            yield from fields_of(inner, f"{name}[]")


def test_json_has_the_documented_fields_a_measurement_of_each_model_and_a_command_that_is_accepted() -> None:
    result = infer("doctor", "--json")
    assert result.returncode == 0, result.stdout
    document = json.loads(result.stdout)
    found = {
        re.sub(r"recommendations\.\w+\.measurement", "measurements[]", name): fields
        for name, fields in fields_of(document, "document")
    }
    assert found | {"problems[]": {"subject", "advice"}} == documented_fields()

    assert document["good"]
    assert document["problems"] == []
    assert onnxruntime.__version__ in document["installation"]["runtimes"].values()
    on_cpu = [measured for measured in document["measurements"] if measured["device"] == "cpu"]
    assert [measured["model"] for measured in on_cpu] == list(bundled())
    for measured, entry in zip(on_cpu, bundled().values(), strict=True):
        assert measured["answers"]["right"]
        assert measured["test_accuracy"] == entry["test_accuracy"]
        assert 0 < measured["speed"]["latency_p50_ms"] <= measured["speed"]["latency_p99_ms"]
    best = document["recommendations"]["throughput"]
    options = parser().parse_args(shlex.split(best["use"])[1:])
    assert (options.model, options.device) == (best["measurement"]["model"], best["measurement"]["device"])


def test_the_text_lists_the_installation_and_measures_although_packages_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime_gpu-1.23.0.dist-info").mkdir()
    (tmp_path / "onnxruntime_gpu-1.23.0.dist-info" / "METADATA").write_text("Name: onnxruntime-gpu\nVersion: 1.23.0\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = run("-c", SHORT_DOCTOR)
    assert result.returncode == 1
    assert f"onnxruntime {onnxruntime.__version__}" in result.stdout
    assert all(f"model {name} " in result.stdout for name in bundled())
    for name in ("fp32", "int8"):
        accuracy = bundled()[name]["test_accuracy"]
        row = rf"^  {name} +cpu +{accuracy:.4f} +[\d,]+ +\d+ +\d+\.\d+ ms +\d+\.\d+ ms   right$"
        assert re.search(row, result.stdout, re.MULTILINE)
    assert re.search(r"^throughput: cifar10-infer images/ --model \w+ --device cpu", result.stdout, re.MULTILINE)
    assert re.search(r'^latency: Classifier\("\w+", device="cpu"\)', result.stdout, re.MULTILINE)
    *_, problem, verdict = result.stdout.splitlines()
    assert re.search("^! ONNX Runtime .*pip uninstall onnxruntime onnxruntime-gpu", problem)
    assert verdict == "the lines that start with ! say what to do"


def test_the_text_of_a_good_installation_ends_with_a_good_verdict() -> None:
    assert list(verdict_lines([])) == ["all is well"]


@pytest.mark.parametrize(
    ("limit", "line"),
    [
        pytest.param(None, "8 in the machine, 4 by affinity, no cgroup limit", id="no limit"),
        pytest.param(1.5, "8 in the machine, 4 by affinity, 1.5 by cgroup", id="a limit"),
    ],
)
def test_the_processors_are_those_that_machine_affinity_and_cgroup_allow(limit: float | None, line: str) -> None:
    found, _ = inspect_installation()
    found = replace(found, processors=Processors(machine=8, affinity=4, cgroup=limit, threads=2))
    assert any(text.endswith(line) for text in installation_lines(found))


def test_a_missing_package_has_the_command_that_installs_it_and_is_a_problem_unless_it_is_optional(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def version_of(package: str) -> str:
        return NOT_INSTALLED if package in ("jinja2", "pyarrow") else "1.0"

    monkeypatch.setattr(installation, "version_of", version_of)
    found, problems = inspect_installation()
    assert (found.packages["jinja2"], found.packages["pyarrow"], found.packages["pillow"]) == (None, None, "1.0")
    assert Problem("jinja2", "not installed: pip install jinja2") in problems
    assert "pyarrow" not in [problem.subject for problem in problems]
    assert any(re.search(r"pyarrow +not installed.*cifar10-zoo\[parquet\]", line) for line in installation_lines(found))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_answers_of_each_bundled_file_are_right(file: Path) -> None:
    stored = golden()
    with Classifier(file, device="cpu") as classifier:
        answers = compare_answers(classifier, stored.images, stored.logits[file.name])
    assert answers.right, answers


def change_tensor(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))


def grow_largest(weights: np.ndarray) -> np.ndarray:
    weights.flat[np.abs(weights).argmax()] *= 1.1
    return weights


@pytest.mark.parametrize("layer", ["conv1", "conv2", "local3", "local4", "softmax_linear"])
def test_one_weight_that_is_ten_percent_larger_makes_the_answers_wrong(layer: str, tmp_path: Path) -> None:
    stored = golden()
    model = onnx.load(FOLDER / "fp32-direct.onnx")
    change_tensor(model, f"network.{layer}.weight", grow_largest)
    onnx.save(model, tmp_path / "changed.onnx")
    with Classifier(tmp_path / "changed.onnx", device="cpu") as classifier:
        assert not compare_answers(classifier, stored.images, stored.logits["fp32-direct.onnx"]).right


def test_probabilities_of_zero_are_wrong_answers(tmp_path: Path) -> None:
    """The logarithm of zero is no number; the JSON document could not contain it."""
    stored = golden()
    model = onnx.load(FOLDER / "fp32-direct.onnx")
    change_tensor(model, "network.softmax_linear.weight", lambda weights: weights * 1000)
    onnx.save(model, tmp_path / "changed.onnx")
    with Classifier(tmp_path / "changed.onnx", device="cpu") as classifier:
        answers = compare_answers(classifier, stored.images, stored.logits["fp32-direct.onnx"])
    assert not answers.right
    assert 10 < answers.largest_difference < 100


def use_all_8_bits(model: onnx.ModelProto) -> None:
    """Double the int8 weights and int32 biases and halve their scales: almost the same function, without spare bits."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors:
            change_tensor(model, node.input[0], double)
            change_tensor(model, node.input[1], lambda scale: scale / 2)


def double(integers: np.ndarray) -> np.ndarray:
    limits = np.iinfo(integers.dtype)
    return np.clip(2 * integers.astype(np.int64), limits.min, limits.max).astype(integers.dtype)


@pytest.mark.skipif(QEMU is None, reason=NO_QEMU)
def test_a_kernel_that_saturates_gives_wrong_answers(tmp_path: Path) -> None:
    """A processor without VNNI adds two products of uint8 and int8 to 16 bits: too few for weights of 8 bits."""
    seven_bits, eight_bits = onnx.load(FOLDER / "int8.onnx"), onnx.load(FOLDER / "int8.onnx")
    use_all_8_bits(eight_bits)
    right, wrong = answers_on_haswell([seven_bits, eight_bits], tmp_path)
    assert right["right"]
    assert not wrong["right"]
    assert wrong["largest_difference"] > 100 * wrong["tolerance"]


COMPARE = """
import json, sys
from dataclasses import asdict
from pathlib import Path
import numpy as np
from cifar10_runtime import Classifier
from cifar10_runtime.cli.doctor.measurement import compare_answers
images = np.load("images.npy")
for model in sorted(Path().glob("*.onnx")):
    logits = np.load(model.with_suffix(".npy"))
    print(json.dumps(asdict(compare_answers(Classifier(model, device="cpu"), images, logits))))
"""


def answers_on_haswell(models: list[onnx.ModelProto], folder: Path) -> list[dict[str, Any]]:
    """Compare int8 models on an emulated Haswell with exact integer arithmetic; return the fields of ``Answers``."""
    images = golden().images[:30]
    np.save(folder / "images.npy", images)
    for number, model in enumerate(models):
        onnx.save(model, folder / f"{number}.onnx")
        np.save(folder / f"{number}.npy", integer_logits(model, images))
    words = [str(QEMU), "-cpu", "Haswell", sys.executable, "-c", COMPARE]
    result = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_wrong_answers_are_a_problem_and_no_recommendation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stored logits of one image are exchanged, as if the kernels of this machine were wrong."""
    stored = golden()
    stored.logits["int8.onnx"][0] = stored.logits["int8.onnx"][0][::-1]
    monkeypatch.setattr(command, "golden", lambda: stored)
    monkeypatch.setattr(command, "bundled", lambda: {"int8": bundled()["int8"]})
    assert not command.examine()
    output = capsys.readouterr().out
    assert re.search(r"^  int8 +cpu .* wrong$", output, re.MULTILINE)
    assert re.search(
        r"^! int8 on cpu +wrong answers: the top-1 prediction of 1 of 100 images differs", output, re.MULTILINE
    )
    assert "throughput:" not in output


def measured(
    model: str,
    device: str = "cpu",
    accuracy: float = 0.8771,
    rate: float = 1000,
    milliseconds: float = 1,
    right: bool = True,
    batch_size: int = 32,
) -> Measurement:
    answers = Answers(100, 0, 0.0, 1e-4, right)
    return Measurement(
        model, device, f"{model}.onnx", accuracy, answers, Speed(rate, batch_size, 32, milliseconds, milliseconds)
    )


FP32 = measured("fp32")
"""The default model."""


def recommended(*others: Measurement) -> tuple[str, str]:
    """What to use for throughput and for latency, if there are the default model and ``others``."""
    found = recommend([FP32, *others])
    assert found.throughput
    assert found.latency
    return found.throughput.use, found.latency.use


def test_throughput_and_latency_can_have_different_models() -> None:
    int8 = measured("int8", accuracy=0.8754, rate=2000, milliseconds=2)
    assert recommended(int8) == ("cifar10-infer images/ --model int8 --device cpu", 'Classifier("fp32", device="cpu")')


def test_throughput_and_latency_can_have_different_devices() -> None:
    on_cuda = measured("fp32", device="cuda", rate=2000, milliseconds=2)
    assert recommended(on_cuda) == (
        "cifar10-infer images/ --model fp32 --device cuda",
        'Classifier("fp32", device="cpu")',
    )


@pytest.mark.parametrize(
    ("accuracy", "model"),
    [
        pytest.param(0.9, "other", id="more accurate"),
        pytest.param(0.8721, "other", id="half a point less accurate"),
        pytest.param(0.872, "fp32", id="more than half a point less accurate"),
    ],
)
def test_a_faster_model_is_recommended_if_it_is_almost_as_accurate_as_the_default(accuracy: float, model: str) -> None:
    other = measured("other", accuracy=accuracy, rate=2000, milliseconds=0.5)
    assert recommended(other) == (
        f"cifar10-infer images/ --model {model} --device cpu",
        f'Classifier("{model}", device="cpu")',
    )


def test_a_faster_model_with_wrong_answers_is_not_recommended() -> None:
    assert recommended(measured("int8", rate=2000, milliseconds=0.5, right=False)) == recommended()


def test_another_batch_size_than_the_default_is_part_of_the_command() -> None:
    throughput, _ = recommended(measured("int8", rate=2000, batch_size=16))
    assert throughput == "cifar10-infer images/ --model int8 --device cpu --batch-size 16"


def test_nothing_is_recommended_if_all_answers_are_wrong() -> None:
    found = recommend([measured("fp32", right=False)])
    assert found.throughput is None
    assert found.latency is None


def test_unknown_arguments_name_the_help_and_the_help_says_how_to_classify_a_folder_of_this_name() -> None:
    assert_fails_cleanly(infer("doctor", "--model", "int8"), 2, "--model int8", "cifar10-infer doctor --help")
    result = infer("doctor", "--help")
    assert result.returncode == 0
    assert "--json" in result.stdout
    assert "./doctor" in result.stdout


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        pytest.param({16: 104.0, 32: 100.0, 64: 90.0}, 32, id="no other size is clearly faster"),
        pytest.param({16: 106.0, 32: 100.0, 64: 90.0}, 16, id="another size is clearly faster"),
    ],
)
def test_the_default_batch_size_stays_unless_another_is_clearly_faster(rates: dict[int, float], chosen: int) -> None:
    assert choose_batch_size(rates, default=32) == chosen
