"""Classifier, the library behind cifar10-infer: its predictions, errors, threads and devices."""

import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import cifar10_runtime
import numpy as np
import onnx
import pytest
from cifar10_runtime import Classifier, ImageError, InferenceError, ModelError, Prediction, UsageError
from cifar10_runtime.engine.models import bundled, find_model
from cifar10_runtime.engine.threads import cgroup_limit, usable_processors
from cifar10_runtime.images.decode import decode

from cifar10_zoo.data import cifar10
from tests.helpers.command_line import run


def test_a_prediction_ranks_the_labels_by_the_probabilities_of_the_model(model_file: Path, photo: Path) -> None:
    classifier = Classifier(model_file, device="cpu")
    assert classifier.labels == cifar10.CLASSES["synthetic"]
    assert classifier.input_size == 32
    assert classifier.device == "cpu"
    good, missing = classifier.classify([photo, "missing.png"])
    assert good.path == str(photo)
    assert good.error == ""
    assert [label for label, _ in good.ranking] == sorted(
        classifier.labels, key=lambda label: -dict(good.ranking)[label]
    )
    assert sum(probability for _, probability in good.ranking) == pytest.approx(1, abs=1e-5)
    pixels = decode(str(photo), 32)
    probabilities = classifier.probabilities(pixels[None])
    assert probabilities.shape == (1, 10)
    assert good.probability == pytest.approx(float(probabilities.max()))
    assert missing == Prediction("missing.png", (), "No such file or directory")


@pytest.mark.parametrize("top_k", [1, 2, 9, 10])
def test_fewer_labels_are_the_most_probable_ones(classifier: Classifier, photo: Path, top_k: int) -> None:
    (all_labels,) = classifier.classify([photo])
    (prediction,) = classifier.classify([photo], top_k=top_k)
    assert prediction.ranking == all_labels.ranking[:top_k]


@pytest.mark.parametrize("top_k", [1, 2])
def test_of_equal_probabilities_the_first_class_comes_first(
    model_file: Path, photo: Path, tmp_path: Path, top_k: int
) -> None:
    model = onnx.load(model_file)
    for tensor in model.graph.initializer:
        if "softmax_linear" in tensor.name:
            tensor.raw_data = bytes(len(tensor.raw_data))
    onnx.save(model, tmp_path / "zero.onnx")
    with Classifier(tmp_path / "zero.onnx", device="cpu") as classifier:
        (prediction,) = classifier.classify([photo], top_k=top_k)
    assert [label for label, _ in prediction.ranking] == list(cifar10.CLASSES["synthetic"][:top_k])
    assert [probability for _, probability in prediction.ranking] == pytest.approx([0.1] * top_k)


def test_wrong_arguments_are_usage_errors(model_file: Path, photo: Path) -> None:
    classifier = Classifier(model_file, device="cpu")
    for batch in (np.zeros((1, 32, 32, 3), np.float32), np.zeros((32, 32, 3), np.uint8)):
        with pytest.raises(UsageError, match=r"must be uint8 \[N, 32, 32, 3\]"):
            classifier.probabilities(batch)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a list of paths"):
        classifier.classify(str(photo))
    for wrong in (None, 3):
        with pytest.raises(UsageError, match="a list of paths"):
            list(classifier.classify([photo, wrong]))  # type: ignore[list-item]
    with pytest.raises(UsageError, match="batch_size"):
        classifier.classify([photo], batch_size=0)
    for top_k in (0, 11):
        with pytest.raises(UsageError, match="top_k must be between 1 and 10"):
            classifier.classify([photo], top_k=top_k)
    for labels in ("abcdefghij", ["one", "two"], [str(number) for number in range(9)] + ["line\nbreak"]):
        with pytest.raises(UsageError, match="labels"):
            Classifier(model_file, device="cpu", labels=labels)
    with pytest.raises(UsageError, match="device gpu"):
        Classifier(model_file, device="gpu")


def test_a_failure_among_the_contents_gives_a_failed_prediction(classifier: Classifier, photo: Path) -> None:
    contents: list[tuple[str, bytes | ImageError] | Prediction] = [
        ("a.png", photo.read_bytes()),
        ("b.png", ImageError("the row has no image bytes")),
        Prediction("c.png", (), "not a regular file"),
        ("d.png", photo.read_bytes()[:100]),
    ]
    image, no_bytes, no_file, damaged = classifier.classify_contents(contents, batch_size=2)
    (expected,) = classifier.classify([photo])
    assert (image.path, image.ranking) == ("a.png", expected.ranking)
    assert no_bytes == Prediction("b.png", (), "the row has no image bytes")
    assert no_file == Prediction("c.png", (), "not a regular file")
    assert damaged.path == "d.png"
    assert damaged.error


def change_labels(labels: str | None) -> Callable[[onnx.ModelProto], None]:
    """Return a function that replaces the labels in a model's metadata; None removes them."""

    def change(model: onnx.ModelProto) -> None:
        others = [entry for entry in model.metadata_props if entry.key != "labels"]
        del model.metadata_props[:]
        model.metadata_props.extend(others)
        if labels is not None:
            model.metadata_props.add(key="labels", value=labels)

    return change


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.output[1].name = model.graph.node[-1].output[0] = "other"


def fix_batch_size(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(change_labels(None), "no labels", id="no labels"),
        pytest.param(change_labels("cat"), "no labels", id="labels that are not JSON"),
        pytest.param(change_labels("5"), "no labels", id="a number as labels"),
        pytest.param(change_labels('"abcdefghij"'), "no labels", id="a string as labels"),
        pytest.param(change_labels('["a", "b"]'), "2 labels for 10 classes", id="too few labels"),
        pytest.param(rename_output, "expected input images uint8", id="another output"),
        pytest.param(fix_batch_size, "expected input images uint8", id="a fixed batch size"),
    ],
)
def test_a_model_that_breaks_the_contract_is_refused(
    model_file: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None], message: str
) -> None:
    model = onnx.load(model_file)
    change(model)
    onnx.save(model, tmp_path / "broken.onnx")
    with pytest.raises(ModelError, match=message):
        Classifier(tmp_path / "broken.onnx", device="cpu")


def no_softmax(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Softmax").op_type = "Identity"


def not_a_number(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Softmax").op_type = "Sqrt"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(no_softmax, "add up to", id="logits"),
        pytest.param(not_a_number, "not finite numbers", id="NaN"),
    ],
)
def test_a_model_whose_output_is_not_probabilities_is_refused(
    model_file: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None], message: str
) -> None:
    model = onnx.load(model_file)
    change(model)
    del next(node for node in model.graph.node if node.output[0] == "probabilities").attribute[:]
    onnx.save(model, tmp_path / "broken.onnx")
    with pytest.raises(ModelError, match=message):
        Classifier(tmp_path / "broken.onnx", device="cpu")


def test_weights_in_another_file_are_refused(model_file: Path, tmp_path: Path) -> None:
    onnx.save(onnx.load(model_file), tmp_path / "model.onnx", save_as_external_data=True, location="weights")
    with pytest.raises(ModelError, match="keeps weights in another file"):
        Classifier(tmp_path / "model.onnx", device="cpu")


def test_a_damaged_bundled_model_is_refused(tmp_path: Path) -> None:
    """A copy of the package with one wrong bit in a model; the current directory comes before installed packages."""
    copy = tmp_path / "cifar10_runtime"
    shutil.copytree(Path(cifar10_runtime.__file__).parent, copy)
    content = bytearray((copy / "models" / "int8.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "models" / "int8.onnx").write_bytes(content)
    code = """
from cifar10_runtime import Classifier, ModelError
try:
    Classifier("int8", device="cpu")
except ModelError as error:
    print(error)
"""
    result = run("-c", code, cwd=tmp_path)
    assert result.stdout.startswith(f"{copy / 'models' / 'int8.onnx'} is damaged"), result.stderr
    Classifier(copy / "models" / "fp16.onnx", device="cpu").close()


@pytest.fixture(scope="module")
def pictures(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*.png"))


@pytest.fixture(scope="module")
def classifier(model_file: Path) -> Iterator[Classifier]:
    with Classifier(model_file, device="cpu") as classifier:
        yield classifier


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_predictions_come_in_the_order_of_the_paths(
    classifier: Classifier, pictures: list[str], tmp_path: Path, batch_size: int
) -> None:
    paths = [*pictures, str(tmp_path / "missing.png"), *reversed(pictures)]
    answers = list(classifier.classify(paths, batch_size))
    assert [answer.path for answer in answers] == paths
    assert [bool(answer.error) for answer in answers].index(True) == len(pictures)
    for answer, mirrored in zip(answers, reversed(answers), strict=True):
        assert answer.label == mirrored.label
        assert answer.probability == pytest.approx(mirrored.probability, abs=1e-6, nan_ok=True)


def test_an_endless_sequence_of_paths_is_taken_a_few_batches_ahead(classifier: Classifier, pictures: list[str]) -> None:
    taken = itertools.count()
    endless = (pictures[next(taken) % len(pictures)] for _ in itertools.repeat(None))
    answers = classifier.classify(endless, batch_size=2)
    first = [next(answers) for _ in range(10)]
    assert [answer.path for answer in first] == pictures[:10]
    answers.close()  # type: ignore[attr-defined]
    assert next(taken) <= 10 + 2 * (2 * classifier.threads + 2)


def test_threads_may_share_a_classifier(classifier: Classifier, pictures: list[str]) -> None:
    expected = list(classifier.classify(pictures[:100]))
    with ThreadPoolExecutor(8) as pool:
        for answers in pool.map(lambda _: list(classifier.classify(pictures[:100])), range(8)):
            assert answers == expected


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 200])
def test_a_batch_of_any_size_gives_the_probabilities_of_its_images(classifier: Classifier, count: int) -> None:
    batch = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    together = classifier.probabilities(batch)
    assert together.shape == (count, 10)
    for image, row in zip(batch, together, strict=True):
        np.testing.assert_allclose(classifier.probabilities(image[None])[0], row, rtol=0, atol=1e-6)


def test_a_closed_classifier_refuses_work(model_file: Path, pictures: list[str]) -> None:
    with Classifier(model_file, device="cpu") as classifier:
        pass
    with pytest.raises(UsageError, match="closed"):
        classifier.classify(pictures)
    with pytest.raises(UsageError, match="closed"):
        classifier.probabilities(np.zeros((1, 32, 32, 3), np.uint8))


def test_closing_a_busy_classifier_raises_inference_error_in_every_thread(pictures: list[str]) -> None:
    classifier = Classifier("int8", device="cpu")
    batch = np.zeros((5000, 32, 32, 3), np.uint8)

    def classify_forever(busy: Event) -> None:
        for _ in classifier.classify(itertools.cycle(pictures)):
            busy.set()

    def compute_forever(busy: Event) -> None:
        while True:
            classifier.probabilities(batch)
            busy.set()

    with ThreadPoolExecutor(6) as pool:
        busy = [Event() for _ in range(6)]
        futures = [
            pool.submit(work, event) for work, event in zip(3 * [classify_forever, compute_forever], busy, strict=True)
        ]
        assert all(event.wait(60) for event in busy)
        classifier.close()
        for future in futures:
            assert isinstance(future.exception(), InferenceError)


def test_every_bundled_model_classifies(pictures: list[str]) -> None:
    for name, entry in bundled().items():
        with Classifier(name, device="cpu") as classifier:
            assert classifier.metadata["precision"] == entry["precision"]
            assert len(list(classifier.classify(pictures[:3]))) == 3


def test_a_bundled_model_has_a_file_per_conv2_algorithm() -> None:
    assert find_model("fp32", "winograd")[0].name == "fp32.onnx"
    assert find_model("fp32", "direct")[0].name == "fp32-direct.onnx"
    assert find_model("int8", "winograd") == find_model("int8", "direct")


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


CGROUP_V1 = "4:memory:/\n3:cpu,cpuacct:/docker/one\n"


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        pytest.param({}, float("inf"), id="no cgroup"),
        pytest.param({"proc/self/cgroup": "0::/\n"}, float("inf"), id="v2, no cpu.max"),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, float("inf"), id="v2, no limit"
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5, id="v2, 1.5 CPUs"
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}, 3, id="v2, parent group"
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "50000 100000\n",
            },
            0.5,
            id="v2, the smaller of two limits",
        ),
        pytest.param(
            {
                "proc/self/cgroup": CGROUP_V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2,
            id="v1, 2 CPUs",
        ),
        pytest.param(
            {
                "proc/self/cgroup": CGROUP_V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            float("inf"),
            id="v1, no limit",
        ),
    ],
)
def test_the_cgroup_limit_bounds_the_number_of_threads(tmp_path: Path, files: dict[str, str], limit: float) -> None:
    root = write(tmp_path, files)
    assert cgroup_limit(root) == limit
    processors = usable_processors(root)
    assert 1 <= processors <= max(1, limit + 1)
    if limit < 1:
        assert processors == 1
    if limit == float("inf") and sys.platform == "linux":
        assert processors == len(os.sched_getaffinity(0))


@pytest.mark.gpu("onnxruntime-gpu")
@pytest.mark.parametrize("name", ["fp32", "fp16", "views10", "tutorial"])
def test_cuda_gives_the_predictions_of_the_cpu_for_all_test_images(cifar10_dir: Path, name: str) -> None:
    """Single images and large batches; the top-1 predictions may differ only if two classes are equally likely."""
    test = cifar10.load(cifar10_dir, "test").images.permute(0, 2, 3, 1).contiguous().numpy()
    with Classifier(name, device="cpu") as on_cpu, Classifier(name, device="cuda") as on_cuda:
        expected, actual = on_cpu.probabilities(test), on_cuda.probabilities(test)
        tolerance = 1e-2 if name == "fp16" else 1e-5
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)
        best, second = np.sort(expected, axis=1)[:, :-3:-1].T
        different = actual.argmax(axis=1) != expected.argmax(axis=1)
        assert (best - second)[different].max(initial=0) <= 2 * tolerance
        for image, row in zip(test[:5], expected, strict=False):
            np.testing.assert_allclose(on_cuda.probabilities(image[None])[0], row, rtol=0, atol=tolerance)
