"""Check the wheel and the sdist, then use the wheel as a user does: in an empty environment, outside the checkout.

    python tests/check_package.py dist

The sdist must hold exactly the files of the checkout, and the wheel exactly those of its packages. The installed wheel
must classify with the extra cpu, classify on Ray with ray, and train, evaluate and export with export.
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
    """The package is wrong; the message says what."""


def check_contents(wheel: Path, sdist: Path) -> None:
    """Check that the sdist holds the checkout, and the wheel its three packages and the license.

    Raises:
        Failure: A file is missing or should not be there.
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
    for what, names in (("lacks", expected - actual), ("has, but should not have", actual - expected)):
        if names:
            raise Failure(f"{archive.name} {what}: {', '.join(sorted(names))}")


@dataclass(frozen=True)
class User:
    """A user with an empty virtual environment in ``folder`` and without the checkout."""

    folder: Path

    def install(self, *requirements: str) -> None:
        """Install requirements with pip, in the versions of constraints.txt."""
        self.run(
            "python -m pip install --quiet --disable-pip-version-check -c", ROOT / "constraints.txt", *requirements
        )

    def run(self, command: str, *words: object, says: str = "") -> None:
        """Run a command of the environment in the folder.

        Args:
            says: A regular expression that the output must match.

        Raises:
            Failure: The command fails, or its output does not match ``says``.
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
            wanted = f"; its output should match {says!r}" if says else ""
            ended = f"ended with status {result.returncode}{wanted}"
            raise Failure(f"{program} {' '.join(rest)}\n{ended}:\n{result.stdout}")


def check_use(wheel: Path, folder: Path) -> None:
    """Run the commands of the README with the installed wheel only.

    Raises:
        Failure: A command fails, or its output is not as expected.
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
    sizes = [f"{path.name} ({path.stat().st_size:,} bytes)" for path in (wheel, sdist)]
    print(f"{' and '.join(sizes)}: all checks passed")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Failure as failure:
        sys.exit(f"error: {failure}")
