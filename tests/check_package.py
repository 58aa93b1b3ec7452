"""Look at the wheel and the sdist, then try the wheel as a user would: in an empty environment, far from the checkout.

    python tests/check_package.py dist

Both must hold what git has, no more and no less. The wheel is installed with the extra cpu alone, and classifies; with
ray, and does so on Ray; then with export, and trains, evaluates and exports.
"""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.image_files import picture

ROOT = Path(__file__).parent.parent
PACKAGES = ("cifar10_zoo/", "export/cifar10_export/", "runtime/cifar10_runtime/")


class Failure(Exception):
    """What is wrong with the package."""


def check_contents(wheel: Path, sdist: Path) -> None:
    """The sdist is the checkout, and the wheel is the packages in it and the licence.

    Raises:
        Failure: a file is missing or too much.
    """
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    checkout = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    with tarfile.open(sdist) as archive:
        _compare(sdist, {name.partition("/")[2] for name in archive.getnames()}, checkout | {"PKG-INFO"})

    packaged = {name[name.index("cifar10_") :] for name in checkout if name.startswith(PACKAGES)}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    about = wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"
    described = {f"{about}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    _compare(wheel, names, packaged | described)


def _compare(archive: Path, actual: set[str], expected: set[str]) -> None:
    for what, names in (("lacks", expected - actual), ("has, and should not", actual - expected)):
        if names:
            raise Failure(f"{archive.name} {what}: {', '.join(sorted(names))}")


@dataclass(frozen=True)
class User:
    """Someone with an empty virtual environment in ``folder``, who has never seen the checkout."""

    folder: Path

    def install(self, *requirements: str) -> None:
        """With pip, and the versions of constraints.txt."""
        self.run(
            "python -m pip install --quiet --disable-pip-version-check -c", ROOT / "constraints.txt", *requirements
        )

    def run(self, command: str, *words: object, says: str = "") -> None:
        """Run a command of the environment in the folder.

        Raises:
            Failure: it fails, or what it prints does not match ``says``.
        """
        program, *rest = [*command.split(), *map(str, words)]
        print("$", program, *rest, flush=True)
        start = time.monotonic()
        ours = ("PYTHONPATH", "VIRTUAL_ENV", "CIFAR10_DATA_DIR")
        result = subprocess.run(
            [self.folder / "venv" / "bin" / program, *rest],
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if name not in ours},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(f"  {time.monotonic() - start:.1f} s", flush=True)
        if result.returncode or not re.search(says, result.stdout):
            wanted = f", and should say {says!r}" if says else ""
            raise Failure(f"{program} {' '.join(rest)}\nended with {result.returncode}{wanted}:\n{result.stdout}")


def check_use(wheel: Path, folder: Path) -> None:
    """Do what the README says, from the wheel alone.

    Raises:
        Failure: a command fails, or does not say what it should.
    """
    venv.create(folder / "venv", with_pip=True)
    (folder / "images").mkdir()
    for size in ((32, 32), (57, 41), (300, 280)):
        picture(*size, "RGB").save(folder / "images" / f"{size[0]}.png")
    user = User(folder)

    user.install(f"{wheel}[cpu]")
    user.run("cifar10-infer doctor", says=r"all is well\n$")
    user.run("cifar10-infer images --output answers.csv", says="3 images, 0 failed")

    user.install(f"{wheel}[cpu,ray]")
    user.run("cifar10-infer-ray images --output on-ray", says="3 images, 0 failed")

    user.install(f"{wheel}[cpu,export]")
    user.run("python -m cifar10_zoo.synthetic --data-dir data", says="60,000 synthetic images")
    user.run("python -m cifar10_zoo.train --data-dir data --max-steps 20", says=r"step 20: .*model\.ckpt-20\.")
    user.run("python -m cifar10_zoo.evaluate --data-dir data --run-once", says=r"precision @ 1 = 0\.\d")
    user.run("python -m cifar10_export --data-dir data", says=r"equal to PyTorch, top-1 accuracy 0\.\d")
    user.run("python -m cifar10_zoo.image_folders --data-dir data --output drawn", says="10000 synthetic images")
    user.run(
        "cifar10-infer drawn --model cifar10.onnx --output drawn.csv", says=r"accuracy 0\.\d+ \(\d+ of 10000 images"
    )
    user.run("python -m pip check")


def main(dist: Path) -> None:
    """Check the only wheel and the only sdist in ``dist``."""
    (wheel,), (sdist,) = dist.resolve().glob("*.whl"), dist.resolve().glob("*.tar.gz")
    check_contents(wheel, sdist)
    with tempfile.TemporaryDirectory() as folder:
        check_use(wheel, Path(folder))
    print(f"{wheel.name} ({wheel.stat().st_size:,} bytes) and {sdist.name} ({sdist.stat().st_size:,} bytes) are well")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Failure as failure:
        sys.exit(f"error: {failure}")
