"""``--class-weights``: the weights of the classes in the loss, from a file or from a checkpoint.

A checkpoint contains the weights, not the name of their file: the file may change or move.
"""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cifar10_zoo.errors import OptionError, one_line

NAMES = ("none", "balanced")
"""Weights that need no file."""
COLUMNS = ("class", "weight")

_LIMITS = (1e-6, 1e6)
_LISTED = 5
_DELIMITERS = (",", ";", "\t")


def with_values(value: str, classes: Sequence[str]) -> str:
    """Return the value of ``--class-weights`` as a checkpoint stores it.

    Args:
        value: ``none``, ``balanced``, or a file: CSV with the columns class and weight, or a JSON object of weights by
            class. A result of this function gives itself.
        classes: The class names of the data set.

    Returns:
        ``none`` or ``balanced``; otherwise a JSON object of weights by class, in the order of ``classes``. Equal
        weights give equal text.

    Raises:
        OptionError: The file cannot be read, lacks a class, names an unknown class or a class twice, or a weight is not
            between 1e-6 and 1e6.
    """
    if value in NAMES:
        return value
    option = f"--class-weights {value}"
    pairs = _pairs(value if value.startswith("{") else _read(Path(value), option), option)
    names = [name for name, _ in pairs]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise OptionError(f"{option} names {_listed(repeated)} more than once: keep one weight per class")
    if unknown := [name for name in names if name not in classes]:
        raise OptionError(f"{option} names {_listed(unknown)}; the classes are {_listed(classes)}")
    if missing := [name for name in classes if name not in names]:
        raise OptionError(f"{option} has no weight of {_listed(missing)}: give each class one")
    weights = {name: _weight(text, name, option) for name, text in pairs}
    return json.dumps({name: weights[name] for name in classes}, ensure_ascii=False)


def values(text: str) -> list[float]:
    """Return the weights in a result of ``with_values``, which is a JSON object, in the order of the classes."""
    return [float(weight) for weight in json.loads(text).values()]


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise OptionError(f"{option}: {error.strerror}; name none, balanced or a file of weights") from None
    except UnicodeDecodeError:
        raise OptionError(f"{option} is not text in UTF-8: save it in this encoding") from None


def _pairs(text: str, option: str) -> list[tuple[str, object]]:
    """Return the pairs of class and weight in the text of a file, without checks of their values."""
    try:
        return json.loads(text, object_pairs_hook=list) if text.lstrip().startswith("{") else _csv_pairs(text, option)
    except (ValueError, csv.Error) as error:
        raise OptionError(f"{option} is neither CSV nor a JSON object: {one_line(error)}") from None


def _csv_pairs(text: str, option: str) -> list[tuple[str, object]]:
    first_line = text.partition("\n")[0]
    delimiter = next((each for each in _DELIMITERS if each in first_line), _DELIMITERS[0])
    rows = csv.DictReader(text.splitlines(), delimiter=delimiter)
    columns = [name.strip() for name in rows.fieldnames or ()]
    if not set(COLUMNS) <= set(columns):
        found = f"the columns {', '.join(columns)}" if columns else "no columns"
        raise OptionError(f"{option} has {found}: name the columns {' and '.join(COLUMNS)}")
    rows.fieldnames = columns
    return [(row["class"] or "", row["weight"]) for row in rows]


def _weight(value: object, name: str, option: str) -> float:
    """Return a weight in a file as a number."""
    low, high = _LIMITS
    try:
        weight = float("nan" if isinstance(value, bool) else value)  # type: ignore[arg-type]
    except (OverflowError, TypeError, ValueError):
        weight = float("nan")
    if not low <= weight <= high:
        raise OptionError(f"{option}: the weight of {name} must be a number from {low:f} to {high:,.0f}, not {value}")
    return weight


def _listed(names: Sequence[str]) -> str:
    """Return the first names, for an error of one line about 1,000 classes."""
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
