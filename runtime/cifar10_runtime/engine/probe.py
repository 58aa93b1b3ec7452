"""Open models of unknown origin in a subprocess first, because some files crash ONNX Runtime."""

import signal
import subprocess
import sys
from pathlib import Path

from cifar10_runtime.engine.classifier import Classifier
from cifar10_runtime.engine.contract import read_labels
from cifar10_runtime.engine.models import bundled
from cifar10_runtime.errors import ModelError

_ORDERLY = (0, 1)
"""The exit statuses of Python without and with an exception."""


def probe_in_subprocess(model: str, device: str, labels: Path | None) -> None:
    """Open ``model`` in a subprocess, except if it ships with the package or is not a file.

    An orderly failure of the subprocess is ignored: this process meets the same error and reports it.

    Raises:
        ModelError: The model crashes ONNX Runtime.
    """
    if model in bundled() or not Path(model).is_file():
        return
    # -P: a module in the current directory must not replace an installed one.
    command = [sys.executable, "-P", "-m", "cifar10_runtime.engine.probe", model, device, str(labels or "")]
    status = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode
    if status not in _ORDERLY:
        raise ModelError(f"{model} crashes ONNX Runtime ({crash_name(status)}): export it again")


def crash_name(status: int) -> str:
    """Return the name of the crash that gave a process this exit status.

    Args:
        status: On POSIX, minus the number of a signal; on Windows, a code such as 0xC0000005, an access violation.
    """
    try:
        return signal.Signals(-status).name
    except ValueError:  # a signal without a name, or not a signal
        return f"exit status {status}" if status < 0 else f"exit status {status:#x}"


def _open(model: str, device: str, labels: str) -> None:
    Classifier(model, device, labels=read_labels(Path(labels)) if labels else None)


if __name__ == "__main__":
    _open(*sys.argv[1:])
