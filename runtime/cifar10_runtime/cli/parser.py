"""The options of cifar10-infer. argparse starts in a tenth of the time that tyro takes."""

import argparse
from pathlib import Path
from typing import NoReturn

from cifar10_runtime.errors import UsageError
from cifar10_runtime.options import ClassifierOptions

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
    add("--top-k", type=int, default=ClassifierOptions.top_k, metavar="K", help="labels a row (default: %(default)s)")
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
        default=ClassifierOptions.model,
        metavar="NAME|FILE",
        help="fp32, int8, fp16, views10 or tutorial, which ship with the package, or an .onnx file "
        "(default: %(default)s)",
    )
    add(
        "--labels",
        type=Path,
        metavar="FILE",
        help="names of the classes instead of those in the model: one a line, or a JSON list",
    )
    add(
        "--device",
        default=ClassifierOptions.device,
        metavar="DEVICE",
        help="cpu, cuda, cuda:N, openvino or auto: CUDA where it works, "
        "else the CPU; all others never fall back to the CPU (default: %(default)s)",
    )
    return model


def add_image_options(result: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """--background and --max-pixels."""
    pixels = result.add_argument_group("images")
    add = pixels.add_argument
    add(
        "--background",
        default=ClassifierOptions.background,
        metavar="COLOR",
        help="what transparent pixels are laid on: a name or #rrggbb (default: %(default)s)",
    )
    add(
        "--max-pixels",
        type=int,
        default=ClassifierOptions.max_pixels,
        metavar="N",
        help="width by height of the largest image to decode; a larger one is an error (default: %(default)s)",
    )
    return pixels


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    digits = number.isdecimal() and count.isdecimal() and len(text) <= 40
    if not (slash and digits and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text[:40]}: it must be I/N, from 1/N to N/N")
    return int(number), int(count)
