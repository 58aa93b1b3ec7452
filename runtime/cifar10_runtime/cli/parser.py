"""The command-line parser of cifar10-infer, with argparse because tyro takes ten times as long to start."""

import argparse
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from cifar10_runtime.errors import UsageError
from cifar10_runtime.options import ClassifierOptions, InferOptions

_DESCRIPTION = """\
Classify image files.

JPEG, PNG, WebP, AVIF, HEIC, BMP, GIF and TIFF files are read. If an image has another size than the model's, its middle
square is resized with an antialiased bicubic filter. EXIF orientation and color profiles are applied. Of an animation,
the first frame is classified.
If the folders of the images are named after classes, the accuracy is printed as well.

cifar10-infer doctor checks the installation and recommends a model; cifar10-infer doctor --help says more.
"""
_DOCTOR = """\
Check the installation. Compare the answers of each bundled model with stored ones, and measure its speed, on each
device. The last lines name the model to use here, and say what to do about each problem. This takes about 15 seconds
per device.

To classify a folder that is called doctor, write ./doctor.
"""
_DOCTOR_EXIT_STATUS = """\
exit status: 0 all is well, 1 something is not good, 2 wrong usage, 128 + N stopped by signal N.
"""
EXIT_STATUS = """\
exit status: 0 all images were classified, 3 some images could not be read (their rows have an error), 1 fatal error,
2 wrong usage, 128 + N stopped by signal N.
"""


class Parser(argparse.ArgumentParser):
    """A parser that raises ``UsageError`` instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raise ``UsageError`` with ``message``.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{message}; {self.prog} --help explains the options")


def parser() -> argparse.ArgumentParser:
    """Return the parser of cifar10-infer; the options have the names of the fields of ``InferOptions``."""
    result = Parser(
        "cifar10-infer",
        description=_DESCRIPTION,
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument("--version", action="store_true", help="print the version and exit")
    _add_path_options(result)
    model = add_model_options(result)
    model.add_argument(
        "--fast-math",
        action="store_true",
        help="compute float32 models in TF32 on a CUDA GPU, in bf16 on OpenVINO: faster, but less exact",
    )
    model.add_argument(
        "--batch-size",
        type=int,
        default=InferOptions.batch_size,
        metavar="N",
        help="images per batch; does not change the predictions (default: a size that suits the device)",
    )
    images = add_image_options(result)
    images.add_argument("--strict", action="store_true", help="stop at the first image that cannot be read")
    images.add_argument(
        "--max-failures",
        type=int,
        default=InferOptions.max_failures,
        metavar="N",
        help="stop as soon as more than N images could not be read (default: never)",
    )
    _add_result_options(result)
    _add_sorting_options(result)
    return result


def doctor_parser() -> argparse.ArgumentParser:
    """Return the parser of cifar10-infer doctor."""
    result = Parser(
        "cifar10-infer doctor",
        description=_DOCTOR,
        epilog=_DOCTOR_EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return result


def add_model_options(result: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add --model, --labels and --device to ``result`` and return their group."""
    group = result.add_argument_group("model")
    group.add_argument(
        "--model",
        default=ClassifierOptions.model,
        metavar="NAME|FILE",
        help="a bundled model (fp32, int8, fp16, views10 or tutorial) or an .onnx file (default: %(default)s)",
    )
    group.add_argument(
        "--labels",
        type=Path,
        default=ClassifierOptions.labels,
        metavar="FILE",
        help="class names to use instead of those in the model: one per line, or a JSON list",
    )
    group.add_argument(
        "--device",
        default=ClassifierOptions.device,
        metavar="DEVICE",
        help="cpu, cuda, cuda:N, openvino or auto; auto is CUDA if it works, else OpenVINO if it is installed and the "
        "processor has AVX-512, else cpu; no other value falls back to the CPU (default: %(default)s)",
    )
    return group


def add_image_options(result: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add --background and --max-pixels to ``result`` and return their group."""
    group = result.add_argument_group("images")
    group.add_argument(
        "--background",
        default=ClassifierOptions.background,
        metavar="COLOR",
        help="color behind transparent pixels: a name or #rrggbb (default: %(default)s)",
    )
    group.add_argument(
        "--max-pixels",
        type=int,
        default=ClassifierOptions.max_pixels,
        metavar="N",
        help="width times height of the largest image to decode; a larger image is an error (default: %(default)s)",
    )
    return group


def add_features_option(result: argparse._ActionsContainer) -> None:
    """Add --features to ``result``."""
    result.add_argument(
        "--features",
        action="store_true",
        help="add the column features to Parquet files and JSON lines: 192 numbers per image, to find similar images",
    )


def add_unknown_options(result: argparse._ActionsContainer) -> None:
    """Add --min-probability and --unknown-label to ``result``."""
    result.add_argument(
        "--min-probability",
        type=_probability,
        default=ClassifierOptions.min_probability,
        metavar="P",
        help="label an image as unknown if no class has at least the probability P (default: never)",
    )
    result.add_argument(
        "--unknown-label",
        default=ClassifierOptions.unknown_label,
        metavar="NAME",
        help="label of unknown images; may not be a class of the model (default: %(default)s)",
    )


def _add_path_options(result: argparse.ArgumentParser) -> None:
    result.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="folders (searched recursively; links to folders are not followed), files or quoted glob patterns",
    )
    result.add_argument(
        "--files-from",
        default=InferOptions.files_from,
        metavar="FILE",
        help="read file paths from FILE, or from stdin if FILE is -: one per line, or each ended by a NUL character",
    )
    result.add_argument(
        "--shard",
        type=_shard,
        default=InferOptions.shard,
        metavar="I/N",
        help="classify only the I-th of N parts of the images; the rows of all parts, one after another, are the rows "
        "of an unsharded run",
    )


def _add_result_options(result: argparse.ArgumentParser) -> None:
    group = result.add_argument_group("results")
    add = group.add_argument
    add(
        "--output",
        default=InferOptions.output,
        metavar="FILE",
        help="file to write: .csv, .jsonl or .parquet, or - for stdout (default: lines for people to read on stdout)",
    )
    add(
        "--format",
        choices=("csv", "jsonl"),
        default=InferOptions.format,
        help="format on stdout (default with --output -: csv)",
    )
    add("--top-k", type=int, default=InferOptions.top_k, metavar="K", help="labels per row (default: %(default)s)")
    add_features_option(group)
    add_unknown_options(group)
    add("--resume", action="store_true", help="continue an interrupted run of the same command, if there was one")
    add("--overwrite", action="store_true", help="replace the files of --output and --report")
    add(
        "--report",
        type=Path,
        default=InferOptions.report,
        metavar="FILE",
        help="also write an .html page with statistics and pictures",
    )


def _add_sorting_options(result: argparse.ArgumentParser) -> None:
    add = result.add_argument_group("sorting").add_argument
    add(
        "--sort-into",
        default=InferOptions.sort_into,
        metavar="FOLDER",
        help="put a copy of each image into FOLDER/LABEL, of a file that cannot be read into FOLDER/_failed; no file "
        "is moved or overwritten, equal names get numbers",
    )
    add(
        "--sort-by",
        choices=("copy", "link"),
        default=InferOptions.sort_by,
        help="copy the files, or make hard links where the file system allows them (default: %(default)s)",
    )


def _probability(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text[:40]}: it must be a number above 0 and at most 1")


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    digits = number.isdecimal() and count.isdecimal() and len(text) <= 40
    if not (slash and digits and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text[:40]}: it must be I/N, from 1/N to N/N")
    return int(number), int(count)
