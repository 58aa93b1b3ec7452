"""Write the model card of a packed folder, README.md, in the format of Hugging Face."""

import re
import shutil
from pathlib import Path

from release.models import MANIFEST, ROOT

_ABOUT_FOLDER = """
## In this folder

| file or folder | content |
|---|---|
| `{family}-NAME/` | a model with test data, in the file layout of the ONNX Model Zoo |
| `{family}-NAME.tar.gz` | an archive of the folder `{family}-NAME/` |
| `{manifest}` | size, SHA-256 and accuracy of each model |
| `triton/` | a model repository for NVIDIA Triton Inference Server |
| `labels.txt` | the classes, in the order of the outputs |
| `SHA256SUMS` | for `sha256sum --check SHA256SUMS` |
"""
_PICTURE = re.compile(r"!\[(?P<title>.*?)\]\((?P<path>.*?)\)")


def write_card(folder: Path, card: Path, family: str) -> None:
    """Write ``card`` to ``folder/README.md``, adapt its paths to ``folder``, and copy its pictures into ``folder``."""
    text = card.read_text(encoding="utf-8")
    for picture in _PICTURE.finditer(text):
        path = ROOT / picture["path"]
        shutil.copyfile(path, folder / path.name)
    text = _PICTURE.sub(lambda picture: f"![{picture['title']}]({Path(picture['path']).name})", text)
    text = re.sub(r"`([\w-]+)\.onnx`", rf"`{family}-\1/model.onnx`", text)
    text = text.replace(f"models/{MANIFEST}", MANIFEST)
    (folder / "README.md").write_text(text + _ABOUT_FOLDER.format(family=family, manifest=MANIFEST), encoding="utf-8")
