"""Shared by all training and export commands: options from a dataclass, exit status, errors as one line."""

import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_type_hints

import tyro

from cifar10_zoo.data import cifar10
from cifar10_zoo.data.dataset import ReadOptions
from cifar10_zoo.errors import OptionError, Stopped, ZooError, one_line
from cifar10_zoo.interrupt import raise_on_interrupt

Options = TypeVar("Options")

_FLAG = re.compile(r"--?(?P<name>[A-Za-z][\w-]*)(?:=(?P<value>.*))?", re.DOTALL)
_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
"""The values of a boolean flag that absl accepts, in lower case."""


@dataclass(frozen=True, kw_only=True)
class DataOptions(ReadOptions):
    """Where the data set is; commands that read the data set extend this class."""

    data_dir: Path = field(default_factory=cifar10.default_data_dir)
    """Directory of class folders or of another kind of data set (docs/your-images.md), or a CSV or Parquet file. Into a
    directory without files, CIFAR-10 is downloaded. $CIFAR10_DATA_DIR sets the default."""
    data_url: str = cifar10.ARCHIVE.url
    """URL of the official archive to download (http, https or file)."""


def run(
    command: Callable[[Options], object],
    options_type: type[Options],
    default_for: Callable[[Sequence[str]], Options] | None = None,
) -> NoReturn:
    """Call ``command`` with the options of the command line, then end the process.

    The exit status is 0 for success, 1 for an error, 2 for a wrong option and 128 plus N for signal N. An error is one
    line on stderr.

    Args:
        command: The function to call; it raises ``ZooError`` or ``OSError`` for an error that a user can fix.
        options_type: A dataclass with one field per option.
        default_for: Returns the defaults for the words of a command line; without it, the class has the defaults.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: on Windows, a pipe does not take all letters
    sys.exit(_exit_status(lambda: command(parse(options_type, sys.argv[1:], default_for))))


def parse(
    options_type: type[Options], words: Sequence[str], default_for: Callable[[Sequence[str]], Options] | None = None
) -> Options:
    """Return the options in ``words``: both ``--batch-size`` and the spellings that ``tyro_words`` translates.

    Args:
        options_type: A dataclass with one field per option.
        words: The command line without the command.
        default_for: Returns the defaults for ``words``; without it, the class has the defaults.

    Raises:
        OptionError: An option has a value that cannot be used.
        SystemExit: An option is unknown or has a value of another type; the error is printed.
    """
    words = tyro_words(words, options_type)
    _require_values(words)
    default: Any = default_for(words) if default_for else tyro.MISSING_NONPROP
    options: Options = tyro.cli(options_type, prog=_program(), args=words, default=default)
    return options


def tyro_words(words: Sequence[str], options_type: type[Any]) -> list[str]:
    """Return a command line as tyro spells it: ``--flag`` and ``--no-flag`` for a boolean flag, two dashes for all.

    The tutorial's programs parse their flags with ``tf.app.flags``, which is ``absl.flags``. absl also accepts
    ``-flag``, ``--noflag``, ``--flag=True`` and ``--flag=false``. The first ``tf.app.flags`` accepted ``--flag True``.

    Args:
        words: The command line without the command, in any of these spellings.
        options_type: A dataclass with one field per option.

    Raises:
        OptionError: A boolean flag has a value that is not boolean.
    """
    is_boolean = {**dict(_flags(options_type)), "help": False}
    end = words.index("--") if "--" in words else len(words)
    joined: list[str] = []
    for word in words[:end]:
        if joined and word.lower() in ("true", "false") and _is_bare_boolean(joined[-1], is_boolean):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return [*(_tyro_word(word, is_boolean) for word in joined), *words[end:]]


def require_writable_file(option: str, path: Path) -> None:
    """Check before the work that a command can write a file.

    Raises:
        OptionError: ``path``, the value of ``option``, cannot be written; the message says why.
    """
    folder = path.resolve().parent
    if not folder.is_dir():
        raise OptionError(f"{option} {path}: the folder {path.parent} does not exist: create it")
    if path.exists() and not path.is_file():
        raise OptionError(f"{option} {path} exists and is not a regular file: name another file")
    if not os.access(folder, os.W_OK):
        raise OptionError(f"{option} {path}: the folder {path.parent} cannot be written to: name another file")


def _require_values(words: Sequence[str]) -> None:
    """Raise OptionError if a value is empty, as of a shell variable that is not set: as a path, it would be ``.``."""
    for before, word in pairwise(["", *words]):
        if not word:
            option = before if _FLAG.fullmatch(before) else "an argument"
            raise OptionError(f"{option} is empty: give it a value, or leave it out")
        if word.endswith("=") and (flag := _FLAG.fullmatch(word)) and not flag["value"]:
            raise OptionError(f"{word[:-1]} is empty: give it a value, or leave it out")


def _flags(options_type: type[Any]) -> Iterator[tuple[str, bool]]:
    """Yield the name of each option, and whether it is boolean."""
    types = get_type_hints(options_type)
    for option in fields(options_type):
        kind = types[option.name]
        if option.init and is_dataclass(kind):
            yield from _flags(kind)  # type: ignore[arg-type]
        elif option.init:
            yield option.name, kind is bool


def _is_bare_boolean(word: str, is_boolean: Mapping[str, bool]) -> bool:
    """Return whether ``word`` is a boolean flag without a value."""
    flag = _FLAG.fullmatch(word)
    return flag is not None and flag["value"] is None and is_boolean.get(_option(flag["name"]), False)


def _tyro_word(word: str, is_boolean: Mapping[str, bool]) -> str:
    flag = _FLAG.fullmatch(word)
    if flag is None:
        return word
    name, value = _option(flag["name"]), flag["value"]
    negated = name.removeprefix("no").removeprefix("_")
    if is_boolean.get(name):
        return _switch(name, "true" if value is None else value)
    if name.startswith("no") and value is None and is_boolean.get(negated):
        return _switch(negated, "false")
    return f"--{word.lstrip('-')}" if name in is_boolean else word


def _switch(name: str, value: str) -> str:
    """Return tyro's word that sets the boolean option ``name``."""
    if value.lower() not in _BOOLEANS:
        raise OptionError(f"--{name} must be True or False, not {value}")
    return f"--{'' if _BOOLEANS[value.lower()] else 'no-'}{name.replace('_', '-')}"


def _option(flag_name: str) -> str:
    """Return the name of the option of ``--FLAG-NAME``, or of ``--FLAG_NAME``, as the tutorial writes it."""
    return flag_name.replace("-", "_")


def _exit_status(command: Callable[[], object]) -> int:
    try:
        raise_on_interrupt()
        command()
    except (ZooError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return error.exit_status if isinstance(error, ZooError) else 1
    except Stopped as stopped:
        return stopped.exit_status
    except KeyboardInterrupt:
        return 130
    return 0


def _program() -> str:
    """Return the command as the user typed it."""
    spec = sys.modules["__main__"].__spec__
    if spec:
        return f"python -m {spec.name.removesuffix('.__main__')}"
    return f"python {sys.argv[0]}" if sys.argv[0].endswith(".py") else Path(sys.argv[0]).name
