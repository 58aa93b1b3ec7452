"""The JPEG check of the page accepts every undamaged file, and refuses the files that libjpeg-turbo warns about."""

import base64
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from cifar10_runtime import ImageError
from cifar10_runtime.images.decode import decode
from PIL import Image

from tests.helpers.command_line import ROOT
from tests.helpers.jpeg_cases import (
    END,
    damaged_files,
    encode,
    encodings,
    flat_blocks,
    harmless_faults,
    scan_starts,
    scene,
)
from tests.helpers.npm import need_node, node

PROGRESSIVE = encode(scene(0, 200, 150), progressive=True)


def errors_of(files: Sequence[bytes]) -> list[str]:
    """The error of the page for each file; empty if the page accepts it."""
    need_node()
    lines = "\n".join(base64.b64encode(content).decode() for content in files)
    result = node(ROOT / "web" / "test" / "jpeg.mjs", stdin=lines)
    assert result.returncode == 0, result.stderr
    return result.stdout.split("\n")[: len(files)]


def whole_files() -> Iterator[tuple[str, bytes]]:
    for seed, (name, options) in enumerate(encodings()):
        for mode, width in (("RGB", 333), ("L", 17), ("CMYK", 64)):
            yield f"{mode}, {name}", encode(scene(seed, width, 71).convert(mode), **options)
    for restart_interval in (1, 3, 8, 10):
        image = scene(restart_interval, 100, 100)
        yield f"restart interval {restart_interval}", encode(image, restart_marker_blocks=restart_interval)
    for color in ("white", "black"):  # zeros are data here: optimized tables give them a code of one or two bits
        page = Image.new("RGB", (1500, 1500), color)
        for kind in ({"optimize": True}, {"progressive": True}):
            yield f"{color} page, {kind}", encode(page, **kind)
    gray = np.random.default_rng(0).integers(60, 200, (8, 8))
    for factors in (((1, 1), (1, 1), (1, 1)), ((4, 2), (1, 1), (1, 1)), ((2, 2), (2, 1), (1, 2))):
        for scans in ([(0, 1, 2)], [(0,), (1,), (2,)], [(0,), (1, 2)]):
            yield f"factors {factors}, scans {scans}", flat_blocks(gray, factors, scans=scans)[0]


def test_every_undamaged_file_is_accepted() -> None:
    files = dict(whole_files())
    assert dict(zip(files, errors_of(list(files.values())), strict=True)) == dict.fromkeys(files, "")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 2}], ids=str)
def test_a_harmless_fault_is_accepted(options: dict[str, object]) -> None:
    faults = dict(harmless_faults(encode(scene(0, 200, 150), **options)))
    assert dict(zip(faults, errors_of(list(faults.values())), strict=True)) == dict.fromkeys(faults, "")


def test_components_of_one_number_are_told_apart_by_their_order() -> None:
    content = bytearray(encode(scene(0, 200, 150)))
    frame, scan = content.index(b"\xff\xc0"), content.index(b"\xff\xda")
    content[frame + 10 : frame + 19 : 3] = content[scan + 5 : scan + 11 : 2] = bytes([1] * 3)
    decode(bytes(content), 32)
    assert errors_of([bytes(content)]) == [""]


def test_every_file_that_cifar10_infer_refuses_is_refused_and_hardly_any_other_damaged_file() -> None:
    """Libjpeg tells only its first warning, so the page notices a little more; all these files have lost data."""
    files = {
        f"{mode}, {name}, {fault}": content
        for seed, (name, options) in enumerate(encodings())
        for mode in ("RGB", "L")
        for fault, content in damaged_files(
            encode(scene(seed, 300, 200).convert(mode), **options), np.random.default_rng(seed)
        )
    }
    errors = dict(zip(files, errors_of(list(files.values())), strict=True))
    assert len(files) == 810
    refused = {name for name, content in files.items() if is_refused(content)}
    refused_by_page = {name for name, error in errors.items() if error}
    assert refused - refused_by_page == set()
    assert len(refused_by_page - refused) <= 8
    assert all(error.startswith("damaged JPEG: ") for error in errors.values() if error)


def is_refused(content: bytes) -> bool:
    """Whether cifar10-infer refuses a file."""
    try:
        decode(content, 32)
    except ImageError:
        return True
    return False


@pytest.mark.parametrize("start", scan_starts(PROGRESSIVE)[1:])
def test_a_progressive_file_without_its_last_scans_is_refused(start: int) -> None:
    assert errors_of([PROGRESSIVE[:start] + END]) == ["damaged JPEG: scans are missing at the end"]
