"""Without simplejpeg or kornia-rs, which have no wheels for some platforms, Pillow decodes the same pixels."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from cifar10_runtime.errors import ImageError
from cifar10_runtime.images.decode import decode

from tests.helpers import jpeg_cases, png_cases
from tests.helpers.command_line import run
from tests.helpers.jpeg_cases import encode, scene

SIZES = (32, 300)
"""JPEG files are decoded at a fraction of their size, and at their full size."""
MISSING = [
    pytest.param(("simplejpeg",), id="simplejpeg"),
    pytest.param(("kornia_rs",), id="kornia-rs"),
    pytest.param(("simplejpeg", "kornia_rs"), id="both"),
]
INFER = """
import sys
sys.modules["simplejpeg"] = sys.modules["kornia_rs"] = None
from cifar10_runtime.cli.main import main
main()
"""
DECODE = """
import sys
sys.modules.update(dict.fromkeys({!r}.split()))
from pathlib import Path
import numpy as np
from cifar10_runtime.errors import ImageError
from cifar10_runtime.images.decode import decode
for path in sorted(Path(sys.argv[1]).iterdir()):
    for size in {}:
        try:
            np.save(Path(sys.argv[2], f"{{path.name}}.{{size}}.npy"), decode(str(path), size))
        except ImageError as error:
            print(path.name, size, error, sep=": ")
"""


def decoded_without(missing: tuple[str, ...], files: dict[str, bytes], tmp_path: Path) -> dict[str, np.ndarray]:
    """Return the pixels of files, by name and size, that a process without these packages decodes; not of errors."""
    images, arrays = tmp_path / "images", tmp_path / "arrays"
    images.mkdir()
    arrays.mkdir()
    for name, content in files.items():
        (images / name).write_bytes(content)
    result = run("-c", DECODE.format(" ".join(missing), SIZES), images, arrays)
    assert result.returncode == 0, result.stderr
    return {path.stem: np.load(path) for path in arrays.iterdir()}


@pytest.fixture(scope="module")
def whole_files() -> dict[str, bytes]:
    """JPEG and PNG files of many kinds, by name."""
    files = {f"{name}.jpg": encode(scene(0), **options) for name, options in jpeg_cases.encodings()}
    files |= {f"{mode}.jpg": encode(scene(0).convert(mode)) for mode in ("L", "CMYK")}
    files |= {f"odd {width}.jpg": encode(scene(1, width, 601)) for width in (897, 901, 1023)}
    files |= {f"{name}.png": content for name, (content, _) in png_cases.opaque_files().items()}
    return {name.replace("/", "-"): content for name, content in files.items()}


@pytest.fixture(scope="module")
def pixels(whole_files: dict[str, bytes]) -> dict[str, np.ndarray]:
    """The pixels of these files with all packages, by name and size."""
    return {f"{name}.{size}": decode(content, size) for name, content in whole_files.items() for size in SIZES}


@pytest.mark.parametrize("missing", MISSING)
def test_whole_files_have_the_same_pixels(
    missing: tuple[str, ...], whole_files: dict[str, bytes], pixels: dict[str, np.ndarray], tmp_path: Path
) -> None:
    decoded = decoded_without(missing, whole_files, tmp_path)
    assert decoded.keys() == pixels.keys()
    for name, expected in pixels.items():
        np.testing.assert_array_equal(decoded[name], expected, err_msg=name)


@pytest.mark.parametrize("missing", MISSING)
def test_lost_data_that_cause_no_warning_are_errors(missing: tuple[str, ...], tmp_path: Path) -> None:
    """Also truncated files, and each damage of PNG."""
    jpeg, progressive = (encode(scene(0), progressive=option) for option in (False, True))
    png = png_cases.opaque_files()["RGB"][0]
    middle = len(jpeg) // 2
    files = {
        "truncated.jpg": jpeg[:middle],
        "zeros.jpg": jpeg[:middle] + bytes(4096) + jpeg[middle + 4096 :],
        "scans.jpg": progressive[: jpeg_cases.scan_starts(progressive)[3]] + jpeg_cases.END,
        "empty.jpg": jpeg[:3],
        "bit.png": png[:200] + bytes([png[200] ^ 1]) + png[201:],
        "truncated.png": png[:-20],
    }
    assert decoded_without(missing, files, tmp_path) == {}


def test_kornia_rs_notices_lost_data_without_simplejpeg(tmp_path: Path) -> None:
    """A file is an error wherever it is one with simplejpeg. Files without losses stay readable."""
    whole = encode(scene(0))
    files = {"whole.jpg": whole}
    for seed in range(4):
        for number, (_, content) in enumerate(jpeg_cases.damaged_files(whole, np.random.default_rng(seed))):
            files[f"{seed}-{number}.jpg"] = content
    accepted = {name for name in files if can_be_decoded(files[name])}
    assert accepted < files.keys()
    assert set(decoded_without(("simplejpeg",), files, tmp_path)) == {f"{n}.{size}" for n in accepted for size in SIZES}


def can_be_decoded(content: bytes) -> bool:
    try:
        decode(content, 32)
    except ImageError:
        return False
    return True


def test_the_command_classifies_without_both(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encode(scene(0)))
    (tmp_path / "b.png").write_bytes(png_cases.opaque_files()["RGB"][0])
    result = run("-c", INFER, tmp_path, "--output", "-")
    assert result.returncode == 0, result.stderr
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(Path(row["path"]).name, row["error"]) for row in rows] == [("a.jpg", ""), ("b.png", "")]
