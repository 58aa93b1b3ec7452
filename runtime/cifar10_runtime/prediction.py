"""The prediction for one image."""

import os
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, or the reason why the image could not be read."""

    path: str
    """The path as the caller gave it, or as it was found in a folder."""
    ranking: tuple[tuple[str, float], ...]
    """Labels with their probabilities, most probable first; empty if the image could not be read."""
    error: str = ""
    """The reason why the image could not be read, else empty."""
    unknown_label: str = ""
    """The label if the highest probability is below the classifier's ``min_probability``, else empty."""
    features: Any = field(default=None, compare=False, repr=False)
    """The output of local4, a NumPy array [192] float32, if the classifier gives features; else None."""

    @classmethod
    def failed(cls, path: str, error: object) -> "Prediction":
        """Return the prediction of an image that could not be read because of ``error``."""
        return cls(path, (), str(error))

    @property
    def folder(self) -> str:
        """The name of the folder that contains the file."""
        return os.path.basename(os.path.dirname(self.path))

    @property
    def label(self) -> str:
        """The answer: the unknown label if there is one, else ``top1``; empty if the image could not be read."""
        return self.unknown_label or self.top1

    @property
    def top1(self) -> str:
        """The most probable label, also of an unknown image; empty if the image could not be read."""
        return self.ranking[0][0] if self.ranking else ""

    @property
    def probability(self) -> float:
        """The probability of ``top1``, 0 to 1; NaN if the image could not be read."""
        return self.ranking[0][1] if self.ranking else float("nan")
