"""The command cifar10-infer."""

import io
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

import tyro

from cifar10_runtime import files, output
from cifar10_runtime.classifier import LARGEST_BATCH, Classifier, Prediction
from cifar10_runtime.errors import InferenceError, UsageError
from cifar10_runtime.models import DEFAULT_MODEL
from cifar10_runtime.session import DeviceChoice

EXIT_OK, EXIT_FATAL, EXIT_USAGE, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


@dataclass(frozen=True)
class Options:
    """Classify image files.

    JPEG, PNG, WebP, BMP, GIF and TIFF are read. Images of another size than the model's are cropped to the middle
    square and resized with an antialiased bicubic filter; EXIF orientation is applied; transparency is laid on white.
    Where the folders of the images are named after classes, the accuracy is printed as well.

    Exit status: 0 all classified, 3 some images could not be read (their rows have an error), 1 fatal error, 2 wrong
    usage, 130 interrupted.
    """

    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH...")]
    """Folders (searched recursively, links to folders not followed), files or quoted glob patterns."""
    model: str = DEFAULT_MODEL
    """Name of a model that ships with the package, or path of an .onnx file."""
    device: DeviceChoice = "auto"
    """Where to compute; auto takes a CUDA GPU where it works, the others never fall back to the CPU."""
    tf32: bool = False
    """On a CUDA GPU, let products be rounded to TF32: faster, and less exact than on a CPU."""
    batch_size: int | None = None
    """Images in a batch, by default what suits the device; no influence on the result."""
    top_k: int = 1
    """Labels a row."""
    output: Path | None = None
    """File to write, .csv or .jsonl, instead of a table on the terminal."""


def main(args: list[str] | None = None) -> None:
    """Run the command with ``args`` (default: the command line) and exit."""
    try:
        sys.exit(_run(tyro.cli(Options, args=args, prog="cifar10-infer")))
    except UsageError as error:
        _fail(error, EXIT_USAGE)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FATAL)
    except (InferenceError, OSError) as error:
        _fail(error, EXIT_FATAL)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _fail(error: Exception, status: int) -> None:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(status)


def _run(options: Options) -> int:
    if not options.paths:
        raise UsageError("name the folders or files to classify: cifar10-infer images/")
    if options.batch_size is not None and not 1 <= options.batch_size <= LARGEST_BATCH:
        raise UsageError(f"--batch-size must be between 1 and {LARGEST_BATCH}, not {options.batch_size}")
    paths = files.find(options.paths)
    first = next(paths, None)
    if first is None:
        raise UsageError(f"no images ({' '.join(files.SUFFIXES)}) in {' '.join(options.paths)}")
    classifier = Classifier(options.model, options.device, options.tf32)
    if not 1 <= options.top_k <= len(classifier.labels):
        raise UsageError(f"--top-k must be between 1 and {len(classifier.labels)}, not {options.top_k}")
    tally = _Tally(classifier.labels)
    start = time.perf_counter()
    with _writer(options) as write:
        predictions = classifier.classify(chain([first], paths), options.batch_size)
        for prediction in _with_progress_bar(predictions, options):
            tally.add(prediction)
            write(prediction)
    seconds = time.perf_counter() - start
    metadata = classifier.metadata
    noun = "image" if tally.images == 1 else "images"
    print(
        f"{tally.images} {noun}, {tally.failed} failed, {tally.images / seconds:.0f} images/s, device "
        f"{classifier.device}, model {options.model} ({metadata.get('dataset', 'unknown data')}, "
        f"step {metadata.get('step', 'unknown')})",
        file=sys.stderr,
    )
    if tally.in_class_folders:
        accuracy = tally.correct / tally.in_class_folders
        print(
            f"accuracy {accuracy:.4f} ({tally.correct} of {tally.in_class_folders} images in folders named after "
            "classes)",
            file=sys.stderr,
        )
    return EXIT_SOME_FAILED if tally.failed else EXIT_OK


@contextmanager
def _writer(options: Options) -> Iterator[output.Write]:
    if options.output is None:
        if isinstance(sys.stdout, io.TextIOWrapper):  # a name of any bytes can be shown on a terminal of any encoding
            sys.stdout.reconfigure(errors="backslashreplace")
        yield output.table_writer(sys.stdout, options.top_k)
        sys.stdout.flush()
    else:
        with output.open_output(options.output, options.top_k) as write:
            yield write


def _with_progress_bar(predictions: Iterable[Prediction], options: Options) -> Iterable[Prediction]:
    """A bar on stderr where that is a terminal on which no table is shown."""
    table_is_shown = options.output is None and sys.stdout.isatty()
    if table_is_shown or not sys.stderr.isatty():
        return predictions
    from tqdm import tqdm  # late, for it takes a tenth of the time to the first prediction

    bar: Iterable[Prediction] = tqdm(predictions, unit=" images")
    return bar


class _Tally:
    """Counts for the summary."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.images = self.failed = self.in_class_folders = self.correct = 0

    def add(self, prediction: Prediction) -> None:
        self.images += 1
        self.failed += bool(prediction.error)
        folder = os.path.basename(os.path.dirname(prediction.path))
        if folder in self.labels and not prediction.error:
            self.in_class_folders += 1
            self.correct += folder == prediction.label
