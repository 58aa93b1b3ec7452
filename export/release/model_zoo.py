"""Write a model with test data in the file layout of the ONNX Model Zoo, as a folder and as an archive.

Source: https://github.com/onnx/models
"""

import gzip
import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from cifar10_zoo import synthetic

MODEL = "model.onnx"
TEST_DATA = "test_data_set_0"
_TEST_IMAGES = 4


def write(folder: Path, source: Path, model: onnx.ModelProto) -> None:
    """Write ``folder`` with the model and test data, and ``folder.tar.gz`` with the same files.

    Args:
        folder: The folder to create.
        source: The .onnx file.
        model: The content of ``source``.
    """
    data = folder / TEST_DATA
    data.mkdir(parents=True)
    shutil.copyfile(source, folder / MODEL)
    images = _test_images()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    names = [output.name for output in model.graph.output]
    outputs = session.run(names, {"images": images})
    _write_tensor(data / "input_0.pb", images, model.graph.input[0].name)
    for number, (name, values) in enumerate(zip(names, outputs, strict=True)):
        _write_tensor(data / f"output_{number}.pb", np.asarray(values), name)
    _write_archive(folder.with_suffix(".tar.gz"), folder)


def _test_images() -> np.ndarray:
    """Return four synthetic images, [4, 32, 32, 3] uint8; every model gets the same images."""
    labels = np.arange(_TEST_IMAGES, dtype=np.uint8)
    return synthetic.draw(labels, np.random.default_rng(0)).transpose(0, 2, 3, 1).copy()


def _write_tensor(path: Path, values: np.ndarray, name: str) -> None:
    path.write_bytes(numpy_helper.from_array(values, name).SerializeToString())


def _write_archive(path: Path, folder: Path) -> None:
    """Write ``folder`` to a .tar.gz archive without times and owners, so that equal files give equal archives."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            member = tarfile.TarInfo(f"{folder.name}/{file.relative_to(folder).as_posix()}")
            member.size = file.stat().st_size
            tar.addfile(member, io.BytesIO(file.read_bytes()))
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=0))
