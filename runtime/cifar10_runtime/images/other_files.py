"""Count the files that a search of folders passes over."""

import os
from collections import Counter

from cifar10_runtime.text import count_of

_COUNTED_SUFFIXES = 1000
"""Suffixes to count separately; a folder can have millions, such as .000001."""
_SHOWN_SUFFIXES = 8


class OtherFiles:
    """Counts, by suffix, the files of folders that are not taken for images."""

    def __init__(self) -> None:
        self._total = 0
        self._suffixes: Counter[str] = Counter()

    def add(self, name: str) -> None:
        """Count the file ``name``."""
        self._total += 1
        suffix = os.path.splitext(name)[1].lower()
        if suffix[1:].isalnum() and (suffix in self._suffixes or len(self._suffixes) < _COUNTED_SUFFIXES):
            self._suffixes[suffix] += 1

    def summary(self) -> str:
        """Return the counts in words, like ``12 other files: 9 .txt, 3 .mov``; empty if there are no files."""
        if not self._total:
            return ""
        shown = self._suffixes.most_common(_SHOWN_SUFFIXES)
        parts = [f"{count} {suffix}" for suffix, count in shown]
        if rest := self._total - sum(count for _, count in shown):
            parts.append(f"{rest} with another suffix or none" if shown else f"{rest} without a suffix")
        return f"{count_of(self._total, 'other file')}: {', '.join(parts)}"
