"""Names of files and folders that every file system takes, and that no two files share."""

import os
import re
import unicodedata
from collections.abc import Iterable
from itertools import count

from cifar10_runtime.errors import UsageError

FAILED = "_failed"
"""The folder of the files that could not be read; no label may have this name."""
_LONGEST = 255
"""Bytes of the longest name on most file systems."""
_LONGEST_SUFFIX = 20
"""Characters; the text after the last period of a name is no suffix if it is longer."""
_REFUSED = re.compile(r'\.|.*[/\\<>:"|?*]|.*[. ]\Z|(con|prn|aux|nul|(com|lpt)[0-9¹²³]) *(\.|\Z)', re.IGNORECASE)
"""Hidden names, and the names that Windows refuses: some characters, periods and spaces at the end, and devices."""


class UniqueNames:
    """Gives each file a name of its own: the file's name, or if it is taken, the name with a number before its suffix.

    The given names depend only on the order of the calls. Names that differ in case or Unicode normalization count as
    equal, because the file systems of Windows and macOS do not distinguish them. A given name has at most 255 bytes.
    """

    def __init__(self) -> None:
        self._next_numbers: dict[str, int] = {}
        """For each given name, in the form in which names are compared, the next number to try for an equal name."""

    def take(self, name: str) -> str:
        """Return a name that no earlier call returned: ``name``, or NAME-2.SUFFIX, NAME-3.SUFFIX and so on."""
        first = _insert(name, "")
        key = _comparable(first)
        if key not in self._next_numbers:
            self._next_numbers[key] = 2
            return first
        for number in count(self._next_numbers[key]):
            result = _insert(name, f"-{number}")
            if _comparable(result) not in self._next_numbers:
                break
        self._next_numbers[key] = number + 1
        self._next_numbers[_comparable(result)] = 2
        return result


def check_folder_names(labels: Iterable[str]) -> None:
    """Check that each label can be the name of a folder of its own, on every system.

    Raises:
        UsageError: A label cannot; the message says how to give it another name.
    """
    labels = set(labels)
    taken = {_comparable(FAILED): FAILED}
    for label in sorted(labels):
        other = taken.setdefault(_comparable(label), label)
        if other != label:
            reason = f"is also the name of the folder {other}"
        elif label == FAILED:
            reason = "is the name of the folder of failed files"
        elif _REFUSED.match(label) or len(os.fsencode(label)) > _LONGEST:
            reason = "cannot be the name of a folder on every system"
        else:
            continue
        raise UsageError(f"--sort-into: the label {label} {reason}: give other labels with --labels or --unknown-label")


def _insert(name: str, number: str) -> str:
    """Return ``name`` with ``number`` before its suffix; the part before is cut if the result would be too long."""
    stem, suffix = os.path.splitext(name)
    if len(suffix) > _LONGEST_SUFFIX:
        stem, suffix = name, ""
    while len(os.fsencode(f"{stem}{number}{suffix}")) > _LONGEST:
        stem = stem[:-1]
    return f"{stem}{number}{suffix}"


def _comparable(name: str) -> str:
    """Return a text that is equal for two names if a file system can take them for equal."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
