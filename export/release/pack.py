"""Pack the models that ship for the ONNX Model Zoo, Hugging Face and NVIDIA Triton.

Packing is reproducible: equal models give equal files, byte for byte.
"""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from cifar10_zoo import __version__, atomic
from cifar10_zoo.errors import OptionError
from release import checksums, hugging_face, model_zoo, triton
from release.models import MANIFEST, MODELS, ROOT, format_manifest, labels_of, read_manifest

FAMILY = "cifar10-cnn"


@dataclass(frozen=True)
class Options:
    """Pack the models that ship into one folder for the ONNX Model Zoo, Hugging Face and NVIDIA Triton."""

    output_dir: Path = Path("dist/zoo")
    """Where to write the folder cifar10-cnn-VERSION; a folder of the same version is replaced."""


@dataclass(frozen=True)
class PackedModel:
    """A model file that ships, and its name in the packed folder."""

    name: str
    source: Path
    on_gpu: bool
    """Whether Triton runs the model on a GPU."""


def pack(options: Options) -> None:
    """Write the packed folder; an error leaves no incomplete folder.

    Raises:
        OptionError: The model card is missing, because this is not a checkout.
        OSError: The folder cannot be written.
    """
    card = ROOT / "MODEL_CARD.md"
    if not card.is_file():
        raise OptionError(f"{card} does not exist: run export/pack.py in a checkout")
    target = options.output_dir / f"{FAMILY}-{__version__}"
    with atomic.new_directory(target) as folder:
        for packed in packed_models():
            model = onnx.load(packed.source)
            labels = "".join(f"{label}\n" for label in labels_of(model))
            model_zoo.write(folder / packed.name, packed.source, model)
            triton.write(folder / "triton" / packed.name.replace("-", "_"), packed.source, model, labels, packed.on_gpu)
        (folder / "labels.txt").write_text(labels, encoding="utf-8")
        (folder / MANIFEST).write_text(packed_manifest(), encoding="utf-8")
        hugging_face.write_card(folder, card, FAMILY)
        shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
        checksums.write(folder)
        shutil.rmtree(target, ignore_errors=True)
    print(target, file=sys.stderr)


def packed_models() -> Iterator[PackedModel]:
    """Yield the model files that the manifest names."""
    for entry in read_manifest().values():
        for conv2_algorithm, file in entry["files"].items():
            on_gpu = conv2_algorithm == "direct" and entry["precision"] != "int8"
            yield PackedModel(packed_name(file["name"]), MODELS / file["name"], on_gpu)


def packed_name(file_name: str) -> str:
    """Return the name in the packed folder: ``fp32.onnx`` -> ``cifar10-cnn-fp32``."""
    return f"{FAMILY}-{Path(file_name).stem}"


def packed_manifest() -> str:
    """Return the manifest of the models that ship, with the paths of their files in the packed folder."""
    models = read_manifest()
    for entry in models.values():
        for file in entry["files"].values():
            file["name"] = f"{packed_name(file['name'])}/{model_zoo.MODEL}"
    return format_manifest({"models": models})
