"""The command cifar10-infer: its options, and how it ends.

Everything else is imported when it is needed: --help comes at once. The options are argparse's, which are there in a
tenth of the time that tyro's take.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from cifar10_runtime.errors import InferenceError, UsageError, printable

EXIT_OK, EXIT_FATAL, EXIT_USAGE, EXIT_SOME_FAILED, EXIT_SIGNAL = 0, 1, 2, 3, 128

_DESCRIPTION = """\
Classify image files.

JPEG, PNG, WebP, BMP, GIF and TIFF are read. Images of another size than the model's are cropped to the middle square
and resized with an antialiased bicubic filter; EXIF orientation is applied; of an animation the first frame is taken.
Where the folders of the images are named after classes, the accuracy is printed as well.

cifar10-infer doctor checks the installation.
"""
EXIT_STATUS = """\
exit status: 0 all classified, 3 some images could not be read (their rows have an error), 1 fatal error, 2 wrong usage,
128 + N stopped by signal N.
"""


class Stopped(KeyboardInterrupt):
    """The process was told to stop by a signal."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


def on_signals(action: Callable[[int, FrameType | None], None]) -> None:
    """Let ``action`` answer Ctrl-C and other signals to end, except those that are ignored, as ``nohup`` wants it."""
    for number in (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")):
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, action)


def stop_at_once(signal_number: int, _frame: FrameType | None) -> None:
    """What to do while there are no rows to save; an exception here could become the ImportError of a C extension."""
    os._exit(EXIT_SIGNAL + signal_number)


def raise_stopped(signal_number: int, _frame: FrameType | None) -> NoReturn:
    """What to do while there is something to save or to clear away."""
    raise Stopped(signal_number)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says; ``parser`` documents each."""

    paths: tuple[str, ...]
    files_from: str | None
    shard: tuple[int, int] | None
    model: str
    labels: Path | None
    device: str
    tf32: bool
    batch_size: int | None
    background: str
    max_pixels: int
    top_k: int
    output: str | None
    format: str | None
    resume: bool
    overwrite: bool
    strict: bool
    max_failures: int | None
    report: Path | None


class Parser(argparse.ArgumentParser):
    """A parser that raises what ``status_of`` prints."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong like any other error, in one line."""
        raise UsageError(f"{message}; --help explains the options")


def parser() -> argparse.ArgumentParser:
    """The parser of all options."""
    result = Parser(
        "cifar10-infer",
        description=_DESCRIPTION,
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("--version", action="store_true", help="print the version and exit")
    add(
        "paths",
        nargs="*",
        metavar="PATH",
        help="folders (searched recursively, links to folders not followed), files or quoted glob patterns",
    )
    add(
        "--files-from",
        metavar="FILE",
        help="take paths of files from FILE, or from stdin for -: one a line, or each ended by a NUL character",
    )
    add(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="classify the I-th of N parts of all that only; the results of all parts, one after another, are those of "
        "the whole",
    )

    add = add_model_options(result).add_argument
    add(
        "--tf32",
        action="store_true",
        help="on a CUDA GPU, let products be rounded to TF32: faster, and less exact than on a CPU",
    )
    add(
        "--batch-size",
        type=int,
        metavar="N",
        help="images in a batch (default: what suits the device); no influence on the result",
    )

    add = add_image_options(result).add_argument
    add("--strict", action="store_true", help="stop at the first image that cannot be read")
    add("--max-failures", type=int, metavar="N", help="stop when more than N images could not be read")

    results = result.add_argument_group("results")
    add = results.add_argument
    add(
        "--output",
        metavar="FILE",
        help="file to write, .csv, .jsonl or .parquet, or - for stdout (default: lines for people on stdout)",
    )
    add("--format", choices=("csv", "jsonl"), help="format on stdout (default with --output -: csv)")
    add("--top-k", type=int, default=1, metavar="K", help="labels a row (default: 1)")
    add("--resume", action="store_true", help="go on where the same command was interrupted, if it was")
    add("--overwrite", action="store_true", help="replace the files of --output and --report")
    add("--report", type=Path, metavar="FILE", help="write a page to look at as well, .html")
    return result


def add_model_options(result: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """--model, --labels and --device."""
    model = result.add_argument_group("model")
    add = model.add_argument
    add(
        "--model",
        default="fp32",
        metavar="NAME|FILE",
        help="fp32, int8, fp16, views10 or tutorial, which ship with the package, or an .onnx file (default: fp32)",
    )
    add(
        "--labels",
        type=Path,
        metavar="FILE",
        help="names of the classes instead of those in the model: one a line, or a JSON list",
    )
    add(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="cpu, cuda, cuda:N, openvino or auto: CUDA where it works, "
        "else the CPU; all others never fall back to the CPU (default: auto)",
    )
    return model


def add_image_options(result: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """--background and --max-pixels."""
    pixels = result.add_argument_group("images")
    add = pixels.add_argument
    add(
        "--background",
        default="white",
        metavar="COLOR",
        help="what transparent pixels are laid on: a name or #rrggbb (default: white)",
    )
    add(
        "--max-pixels",
        type=int,
        default=1 << 26,
        metavar="N",
        help="width by height of the largest image to decode; a larger one is an error (default: 67108864)",
    )
    return pixels


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    digits = number.isdecimal() and count.isdecimal() and len(text) <= 40
    if not (slash and digits and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text[:40]}: it must be I/N, from 1/N to N/N")
    return int(number), int(count)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command with ``args`` (default: the command line) and exit.

    Without the interpreter's own way out, which takes longer than classifying a hundred images and waits for threads.
    """
    on_signals(stop_at_once)
    for descriptor in range(3):  # what is closed would else be taken by the next file
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    status = status_of(lambda: _run(sys.argv[1:] if args is None else args))
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:
        status = status or EXIT_FATAL
    os._exit(status)


def _run(args: Sequence[str]) -> int:
    if list(args) == ["doctor"]:
        from cifar10_runtime.cli.doctor import examine

        return EXIT_OK if examine() else EXIT_FATAL
    options = parser().parse_args(args)
    if vars(options).pop("version"):
        from cifar10_runtime.cli.doctor import version_of

        print(f"cifar10-infer {version_of('cifar10-zoo')}")
        return EXIT_OK
    from cifar10_runtime.cli.run import run

    return run(Options(**vars(options) | {"paths": tuple(options.paths)}))


def status_of(run: Callable[[], int]) -> int:
    """The exit status of a command that ``run`` runs; an error is one line on stderr."""
    try:
        return run()
    except SystemExit:  # argparse has shown the help
        return EXIT_OK
    except UsageError as error:
        return _fail(error, EXIT_USAGE)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_FATAL
    except (InferenceError, OSError, MemoryError) as error:
        return _fail(error, EXIT_FATAL)
    except Stopped as stopped:
        return EXIT_SIGNAL + stopped.signal_number


def _fail(error: BaseException, status: int) -> int:
    print(f"error: {printable(str(error)) or type(error).__name__}", file=sys.stderr)  # names can have line breaks
    return status
