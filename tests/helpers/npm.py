"""Run npm and Node.js for the tests of the JavaScript parts."""

import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

NODE = shutil.which("node")
NPM = shutil.which("npm")


def need_node() -> None:
    """Skip the test if Node.js is not installed."""
    if not NODE:
        pytest.skip("node is not installed")


def need_packages(folder: Path) -> None:
    """Install the packages of ``folder``'s package-lock.json once; skip the test if npm cannot install them."""
    need_node()
    if not NPM:
        pytest.skip("npm is not installed")
    lock, installed = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    with FileLock(folder / "node_modules.lock"):  # tests in other processes may need the packages at the same time
        if installed.exists() and installed.stat().st_mtime > lock.stat().st_mtime:
            return
        result = npm("ci", "--no-audit", "--no-fund", cwd=folder)
        if result.returncode:
            pytest.skip(f"npm cannot install the packages of {folder.name}: {result.stderr.strip().splitlines()[0]}")


def npm(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``npm WORDS...`` in the folder ``cwd``."""
    return subprocess.run([str(NPM), *words], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def node(script: Path, *words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``node SCRIPT WORDS...``."""
    command = [str(NODE), str(script), *map(str, words)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=300, check=False)
