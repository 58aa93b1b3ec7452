"""Images in class folders: ``DIR/CLASS/*``, or ``DIR/train/CLASS/*`` with ``DIR/test/CLASS/*``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from cifar10_runtime.images import find as image_files
from cifar10_runtime.images.other_files import OtherFiles

from cifar10_zoo.data.listing import Listing
from cifar10_zoo.data.split import assign, part_of
from cifar10_zoo.errors import DatasetError

_SHOWN_CLASSES = 3

Part = Mapping[str, list[str]]
"""The paths of the images of each class."""


def find(data_dir: Path) -> Listing | None:
    """Return the images in the class folders in ``data_dir``; None if no folder in it has an image.

    A class folder may have folders of its own. Hidden files and folders are ignored, as by cifar10-infer. ``val`` takes
    the place of a missing ``test``. A single folder ``train`` is divided like class folders without ``test``.

    Raises:
        DatasetError: A class folder has no image, an image is in no class folder, or the parts have different classes.
    """
    folders = _folders(data_dir)
    others = OtherFiles()
    is_test = assign({folder: part_of(folder.name, whole=True) for folder in folders})
    if is_test is None and [part_of(folder.name, whole=True) for folder in folders] == ["train"]:
        require_no_loose_images(folders[0])
        return find(folders[0])
    if is_test is None:
        part = _read_part(data_dir, others)
        if not any(part.values()):
            return None
        require_no_loose_images(data_dir)
        _require_images(data_dir, part)
        _require_no_outer_folder(data_dir, part)
        return _listing(data_dir, {data_dir: part}, None, others)
    for folder in is_test:
        require_no_loose_images(folder)
    parts = {folder: _read_part(folder, others) for folder in is_test}
    _require_same_classes(data_dir, parts)
    for folder, part in parts.items():
        _require_images(folder, part)
    unused = tuple(f"{folder.name}/ is not used" for folder in folders if folder not in is_test)
    return _listing(data_dir, parts, is_test, others, unused)


def require_no_loose_images(folder: Path) -> None:
    """Raise DatasetError if ``folder`` has images that are in none of its folders."""
    if loose := next(filter(image_files.is_visible, sorted(_files(folder))), None):
        raise DatasetError(f"{folder} has images that are in no class folder, such as {loose}: move each into one")


def require_directory_names(classes: Sequence[str]) -> None:
    """Raise DatasetError if the name of a class cannot be the name of a directory."""
    if bad := next((name for name in classes if "/" in name or name.startswith(".")), None):
        raise DatasetError(f"class {bad} cannot have a directory of this name: rename the class")


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _read_part(folder: Path, others: OtherFiles) -> Part:
    """Return the images of each class folder in ``folder``, in the order of the class names."""
    return {path.name: list(image_files.find([str(path)], others=others)) for path in _folders(folder)}


def _require_images(folder: Path, part: Part) -> None:
    if not part:
        raise DatasetError(f"{folder} has no class folders: put the images of each class into a folder")
    for name, paths in part.items():
        if not paths:
            raise DatasetError(f"{folder / name} has no image: add images, or move the folder away")


def _require_no_outer_folder(data_dir: Path, part: Part) -> None:
    """Raise DatasetError if the only folder contains the class folders, as in many archives."""
    only = data_dir / next(iter(part))
    if len(part) == 1 and len(_folders(only)) > 1:
        raise DatasetError(f"{data_dir} has one class folder, {only.name}: name {only} if its folders are the classes")


def _require_same_classes(data_dir: Path, parts: Mapping[Path, Part]) -> None:
    for folder, part in parts.items():
        for other, classes in parts.items():
            if missing := sorted(part.keys() - classes.keys()):
                more = ", ..." if len(missing) > _SHOWN_CLASSES else ""
                raise DatasetError(
                    f"{data_dir}: {folder.name}/ has classes that {other.name}/ lacks: "
                    f"{', '.join(missing[:_SHOWN_CLASSES])}{more}"
                )


def _listing(
    data_dir: Path,
    parts: Mapping[Path, Part],
    is_test: Mapping[Path, bool] | None,
    others: OtherFiles,
    unused: tuple[str, ...] = (),
) -> Listing:
    classes = tuple(next(iter(parts.values())))
    labels = {name: label for label, name in enumerate(classes)}
    found = [
        (path, labels[name], is_test is not None and is_test[folder])
        for folder, part in parts.items()
        for name, paths in part.items()
        for path in paths
    ]
    return Listing(
        source=str(data_dir),
        classes=classes,
        names=[path for path, _, _ in found],
        labels=np.array([label for _, label, _ in found], np.int64),
        is_test=None if is_test is None else np.array([test for _, _, test in found], np.bool_),
        remarks=tuple(filter(None, (others.summary(), *unused))),
    )
