"""The models that ship as others take them: ONNX Model Zoo and ONNX Hub, Hugging Face, NVIDIA Triton.

Nothing is computed but the answers to the test data: the same models give the same files, byte for byte.
"""

import gzip
import hashlib
import io
import json
import re
import shutil
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from cifar10_zoo import __version__, atomic, synthetic
from cifar10_zoo.errors import OptionError
from release.ship import MANIFEST, MODELS
from release.triton import model_configuration

FAMILY = "cifar10-cnn"
HUB_MANIFEST = "ONNX_HUB_MANIFEST.json"
SUMS = "SHA256SUMS"
TEST_DATA = "test_data_set_0"
ROOT = Path(__file__).parents[2]

_ABOUT_FOLDER = f"""
## In this folder

| | |
|---|---|
| `{FAMILY}-NAME/` | a model, and test data in the layout of the ONNX Model Zoo; `{FAMILY}-NAME.tar.gz` is the same |
| `{HUB_MANIFEST}` | the models as ONNX Hub describes them |
| `triton/` | a model repository for NVIDIA Triton Inference Server |
| `labels.txt` | the classes, in the order of the outputs |
| `{SUMS}` | for `sha256sum --check {SUMS}` |
"""
_TEST_IMAGES = 4
_TAGS = ["vision", "classification", "image classification", "cifar10"]


@dataclass(frozen=True)
class Options:
    """Pack the models that ship into one folder for the ONNX Model Zoo, ONNX Hub, Hugging Face and NVIDIA Triton."""

    output_dir: Path = Path("dist/zoo")
    """Where the folder cifar10-cnn-VERSION goes; one of the same version is replaced."""


def pack(options: Options) -> None:
    """Write the folder, complete or not at all.

    Raises:
        OptionError: the model card is not there: this is not a checkout.
        OSError: it cannot be written.
    """
    card = ROOT / "MODEL_CARD.md"
    if not card.is_file():
        raise OptionError(f"{card} does not exist: run export/pack.py in a checkout")
    target = options.output_dir / f"{FAMILY}-{__version__}"
    manifest: dict[str, Any] = json.loads((MODELS / MANIFEST).read_text(encoding="utf-8"))["models"]
    with atomic.new_directory(target) as folder:
        entries, labels = [], ""
        for about in manifest.values():
            for layout, file in about["files"].items():
                model = onnx.load(MODELS / file["name"])
                labels = "".join(f"{label}\n" for label in labels_of(model))
                name = f"{FAMILY}-{Path(file['name']).stem}"
                _write_model(folder / name, MODELS / file["name"], model)
                entries.append(_hub_entry(folder, name, model, about))
                on_gpu = layout == "direct" and about["precision"] != "int8"
                _write_triton(folder / "triton" / name.replace("-", "_"), MODELS / file["name"], labels, on_gpu)
        (folder / HUB_MANIFEST).write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
        (folder / "labels.txt").write_text(labels, encoding="utf-8")
        _write_card(folder, card)
        shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
        _write_sums(folder)
        shutil.rmtree(target, ignore_errors=True)
    print(target, file=sys.stderr)


def labels_of(model: onnx.ModelProto) -> list[str]:
    """The classes that the metadata of a model name."""
    found: list[str] = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "labels"))
    return found


def _write_model(folder: Path, source: Path, model: onnx.ModelProto) -> None:
    """A model with test data, as a folder and as an archive of it: the layout of the ONNX Model Zoo."""
    data = folder / TEST_DATA
    data.mkdir(parents=True)
    shutil.copyfile(source, folder / "model.onnx")
    labels = np.arange(_TEST_IMAGES, dtype=np.uint8)
    images = synthetic.draw(labels, np.random.default_rng(0)).transpose(0, 2, 3, 1).copy()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    names = [output.name for output in model.graph.output]
    _write_tensor(data / "input_0.pb", images, model.graph.input[0].name)
    for number, (name, values) in enumerate(zip(names, session.run(names, {"images": images}), strict=True)):
        _write_tensor(data / f"output_{number}.pb", np.asarray(values), name)
    _write_archive(folder.with_suffix(".tar.gz"), folder)


def _write_tensor(path: Path, values: np.ndarray, name: str) -> None:
    path.write_bytes(numpy_helper.from_array(values, name).SerializeToString())


def _write_archive(path: Path, folder: Path) -> None:
    """Without times and owners, so that the same files make the same archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            member = tarfile.TarInfo(f"{folder.name}/{file.relative_to(folder).as_posix()}")
            member.size = file.stat().st_size
            tar.addfile(member, io.BytesIO(file.read_bytes()))
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=0))


def _hub_entry(folder: Path, name: str, model: onnx.ModelProto, about: dict[str, Any]) -> dict[str, Any]:
    """What ONNX Hub's manifest says of a model.

    Source: ``ModelInfo`` in onnx/hub.py, https://github.com/onnx/onnx/blob/main/docs/Hub.md
    """
    path, archive = f"{name}/model.onnx", f"{name}.tar.gz"
    return {
        "model": name,
        "model_path": path,
        "onnx_version": _onnx_version(model),
        "opset_version": model.opset_import[0].version,
        "metadata": {
            "model_sha": _sha256(folder / path),
            "model_bytes": (folder / path).stat().st_size,
            "tags": _TAGS,
            "io_ports": {"inputs": _ports(model.graph.input), "outputs": _ports(model.graph.output)},
            "model_with_data_path": archive,
            "model_with_data_sha": _sha256(folder / archive),
            "model_with_data_bytes": (folder / archive).stat().st_size,
            "test_accuracy": about["test_accuracy"],
            "precision": about["precision"],
            "views": about["views"],
        },
    }


def _onnx_version(model: onnx.ModelProto) -> str:
    """The first release of ONNX that had these operators."""
    opset = model.opset_import[0].version
    return next(str(row[0]) for row in onnx.helper.VERSION_TABLE if row[2] >= opset)


def _ports(values: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": value.name,
            "shape": [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim],
            "type": f"tensor({onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()})",
        }
        for value in values
    ]


def _write_triton(folder: Path, source: Path, labels: str, on_gpu: bool) -> None:
    (folder / "1").mkdir(parents=True)
    shutil.copyfile(source, folder / "1" / "model.onnx")
    (folder / "labels.txt").write_text(labels, encoding="utf-8")
    (folder / "config.pbtxt").write_text(model_configuration(folder.name, on_gpu), encoding="utf-8")


def _write_card(folder: Path, card: Path) -> None:
    """Hugging Face's model card, with the pictures that it shows."""

    def picture(match: re.Match[str]) -> str:
        shutil.copyfile(ROOT / match[2], folder / Path(match[2]).name)
        return f"![{match[1]}]({Path(match[2]).name})"

    text = re.sub(r"!\[(.*?)\]\((.*?)\)", picture, card.read_text(encoding="utf-8"))
    text = re.sub(r"`([\w-]+)\.onnx`", rf"`{FAMILY}-\1/model.onnx`", text).replace("models/manifest.json", HUB_MANIFEST)
    (folder / "README.md").write_text(text + _ABOUT_FOLDER, encoding="utf-8")


def _write_sums(folder: Path) -> None:
    """What ``sha256sum --check SHA256SUMS`` reads."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
