"""--features: each row has the output of local4, as PyTorch computes it, in every format that can hold a list."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from cifar10_runtime import Classifier, DeviceError, ModelError, TooManyFailures, UsageError
from cifar10_runtime.cli.run import run
from cifar10_runtime.cluster.options import RayOptions
from cifar10_runtime.cluster.worker import PartitionWorker
from cifar10_runtime.engine import session
from cifar10_runtime.options import InferOptions
from numpy.typing import NDArray
from pyarrow import parquet

from cifar10_zoo.data.transforms import evaluation_images
from cifar10_zoo.training import checkpoint
from tests.runtime.test_unknown import same_signal_handlers  # noqa: F401


@pytest.fixture(scope="module")
def images(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory of 70 images: three batches, of which the last one is not full."""
    target = tmp_path_factory.mktemp("features")
    for number, path in enumerate(sorted(folder.rglob("*.png"))[:70]):
        shutil.copy(path, target / f"{number:02d}.png")
    return target


@pytest.fixture(scope="module")
def expected(images: Path, train_dir: Path) -> NDArray[np.float32]:
    """Return the output of local4 in PyTorch, [70, 192]."""
    import torch
    from PIL import Image

    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(images.iterdir())])
    model = checkpoint.read_newest(train_dir).ema_model()
    with torch.inference_mode():
        crops = evaluation_images(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        return np.asarray(model.activations(crops)["local4"])


@pytest.fixture
def options(images: Path, model_file: Path) -> InferOptions:
    return InferOptions(paths=(str(images),), model=str(model_file), features=True)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_the_column_features_is_the_output_of_local4(
    options: InferOptions, expected: NDArray[np.float32], suffix: str, tmp_path: Path
) -> None:
    output = tmp_path / f"out.{suffix}"
    run(replace(options, output=str(output)))
    if suffix == "parquet":
        rows = parquet.read_table(output).to_pylist()
        assert str(parquet.read_schema(output).field("features").type) == "list<element: float>"
    else:
        rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert list(rows[0]) == ["path", "label", "probability", "error", "features"]
    np.testing.assert_allclose([row["features"] for row in rows], expected, rtol=0, atol=1e-5 * expected.max())


def test_the_library_gives_arrays_and_the_same_labels(
    images: Path, model_file: Path, expected: NDArray[np.float32]
) -> None:
    paths = sorted(images.iterdir())
    with Classifier(model_file, "cpu", features=True) as with_features, Classifier(model_file, "cpu") as plain:
        predictions = list(with_features.classify(paths))
        assert predictions == list(plain.classify(paths))
        assert all(prediction.features is None for prediction in plain.classify(paths))
        batch = np.zeros((40, 32, 32, 3), np.uint8)
        np.testing.assert_array_equal(with_features.probabilities(batch), plain.probabilities(batch))
    features = [prediction.features for prediction in predictions]
    arrays = np.stack([each for each in features if each is not None])
    assert arrays.dtype == np.float32
    np.testing.assert_allclose(arrays, expected, rtol=0, atol=1e-5 * expected.max())


def test_an_interrupted_run_resumes_to_the_same_bytes(options: InferOptions, images: Path, tmp_path: Path) -> None:
    folder, output = tmp_path / "images", tmp_path / "out.jsonl"
    shutil.copytree(images, folder)
    content = (folder / "66.png").read_bytes()
    (folder / "66.png").write_bytes(b"damaged")
    options = replace(options, paths=(str(folder),), output=str(output))
    with pytest.raises(TooManyFailures):
        run(replace(options, strict=True))
    (folder / "66.png").write_bytes(content)
    with pytest.raises(UsageError, match="a run with another model or other options left"):
        run(replace(options, features=False, resume=True))
    run(replace(options, resume=True))
    resumed = output.read_bytes()
    run(replace(options, overwrite=True))
    assert output.read_bytes() == resumed


def test_a_failed_image_has_no_features(options: InferOptions, tmp_path: Path) -> None:
    (tmp_path / "damaged.png").write_bytes(b"damaged")
    output = tmp_path / "out.parquet"
    run(replace(options, paths=(str(tmp_path),), output=str(output)))
    assert parquet.read_table(output).to_pylist()[0]["features"] is None


def test_a_ray_part_has_the_rows_of_the_command(options: InferOptions, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    run(replace(options, output=str(output)))
    (tmp_path / "ray").mkdir()
    ray = RayOptions(paths=options.paths, output=str(tmp_path / "ray"), model=options.model, features=True)
    partition = {"kind": "files", "paths": sorted(map(str, images.iterdir()))}
    answer = PartitionWorker(ray, None, 1, str(tmp_path))({"number": [0], "partition": [json.dumps(partition)]})
    assert answer["error"] == [""]
    (part,) = (tmp_path / "ray").glob("*.parquet")
    columns = ["label", "probability", "features"]
    assert parquet.read_table(part, columns=columns).equals(parquet.read_table(output, columns=columns))


@pytest.mark.parametrize("changes", [{}, {"output": "out.csv"}, {"output": "-"}], ids=["table", "file", "stdout"])
def test_rows_that_cannot_hold_a_list_are_refused(options: InferOptions, changes: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"--features needs --output NAME\.parquet or NAME\.jsonl"):
        run(replace(options, **changes))  # type: ignore[arg-type]


def test_a_model_without_the_output_is_refused(model_file: Path, tmp_path: Path) -> None:
    model = onnx.load(model_file)
    del model.graph.output[2]
    onnx.save(model, tmp_path / "old.onnx")
    with pytest.raises(ModelError, match=r"old\.onnx has no output features .* python -m cifar10_export"):
        Classifier(tmp_path / "old.onnx", "cpu", features=True)


def test_cuda_is_refused_and_auto_passes_it_over(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose ONNX Runtime has CUDA."""
    monkeypatch.setattr(session, "candidates", lambda device: ["cuda", "cpu"] if device == "auto" else [device])
    with pytest.raises(DeviceError, match="--device cuda gives no features: choose --device cpu or openvino"):
        Classifier(model_file, "cuda", features=True)
    with Classifier(model_file, "auto", features=True) as classifier:
        assert classifier.device == "cpu"
