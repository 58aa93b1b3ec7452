"""What cifar10-infer does: read images, predict, count, write rows."""

import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from PIL import Image

from cifar10_runtime.atomic import write_file
from cifar10_runtime.cli.checks import check_options
from cifar10_runtime.cli.signals import signals_raise
from cifar10_runtime.cli.sorting import NoSorter, new_sorter
from cifar10_runtime.engine.classifier import Classifier
from cifar10_runtime.engine.open import open_classifier
from cifar10_runtime.errors import OutputError, TooManyFailures, UsageError
from cifar10_runtime.images.find import SUFFIXES, find, read_path_list
from cifar10_runtime.images.other_files import OtherFiles
from cifar10_runtime.options import InferOptions
from cifar10_runtime.prediction import Prediction
from cifar10_runtime.results.resume import RowSettings
from cifar10_runtime.results.rows import FORMATS, Columns, Table
from cifar10_runtime.results.stream import StreamWriter
from cifar10_runtime.results.tally import Tally
from cifar10_runtime.results.writer import Writer, result_writer
from cifar10_runtime.text import printable, valid_unicode

if TYPE_CHECKING:
    from cifar10_runtime.results.page import Report
    from cifar10_runtime.results.sorter import Sorter


def run(options: InferOptions) -> int:
    """Classify the images that ``options`` name; return how many could not be read, or could not be sorted.

    Raises:
        InferenceError: The command ends without a complete result; the message says why.
    """
    check_options(options)
    others, sorter = OtherFiles(), new_sorter(options)
    paths = _find_paths(options, others, sorter)
    classifier = _open_classifier(options)
    sorter.check_labels([*classifier.labels, *([options.unknown_label] if options.unknown_rule else [])])
    counters = _Counters(options, classifier.labels)
    writer = _open_writer(options, classifier)
    start = time.perf_counter()
    try:
        with signals_raise(), writer, sorter:
            for prediction in writer.resume():
                _check_same_image(prediction, next(paths, None))
                counters.add(prediction)
                sorter.add(prediction)
            resumed = counters.tally.images
            top_k = None if options.report else options.top_k  # the page may show more labels than a row
            predictions = classifier.classify(paths, options.batch_size, top_k)
            for prediction in _with_progress_bar(predictions, options):
                counters.add(prediction)
                sorter.add(prediction)
                writer.add(prediction)
            writer.commit()
    except UsageError:  # it wrote nothing
        raise
    except BaseException:
        if message := writer.how_to_continue():
            print(message, file=sys.stderr)
        raise
    rate = (counters.tally.images - resumed) / (time.perf_counter() - start)
    _summarize(options, classifier, counters, rate)
    for summary in filter(None, (sorter.summary(), others.summary(), sorter.left_out())):
        print(summary, file=sys.stderr)
    return counters.tally.failed + sorter.unsorted


class _Counters:
    """Everything that a run counts; ends the run after too many failures."""

    def __init__(self, options: InferOptions, labels: tuple[str, ...]) -> None:
        self.tally = Tally(labels, has_unknown=options.unknown_rule is not None)
        self.report = _new_report(options, labels) if options.report else None
        self._option = "--strict" if options.strict else f"--max-failures {options.max_failures}"
        self._max_failures = 0 if options.strict else options.max_failures

    def add(self, prediction: Prediction) -> None:
        """Count one prediction.

        Raises:
            TooManyFailures: ``--strict`` or ``--max-failures`` allows no further failure.
        """
        self.tally.add(prediction)
        if self.report:
            self.report.add(prediction)
        if prediction.error and self._max_failures is not None and self.tally.failed > self._max_failures:
            raise TooManyFailures(f"{prediction.path}: {prediction.error} ({self._option})")


def _new_report(options: InferOptions, labels: tuple[str, ...]) -> "Report":
    from cifar10_runtime.results.page import Report  # imported late, because Jinja would delay the first prediction

    unknown_label = options.unknown_label if options.unknown_rule else ""
    return Report(labels, options.background, options.max_pixels, unknown_label)


def _find_paths(options: InferOptions, others: OtherFiles, sorter: "Sorter | NoSorter") -> Iterator[str]:
    """Return the paths of the images to classify, and count other files; most are found only when they are needed.

    Raises:
        UsageError: No image is found.
    """
    listed = read_path_list(options.files_from) if options.files_from is not None else iter(())
    paths = sorter.outside(chain(find(options.paths, others=others), listed))
    first = next(paths, None)
    if first is None:
        where = " ".join([*options.paths, *([f"--files-from {options.files_from}"] if options.files_from else [])])
        passed_over = "".join(f"; {files}" for files in (others.summary(), sorter.left_out()) if files)
        raise UsageError(f"no images ({' '.join(SUFFIXES)}) in {where}{passed_over}")
    return sorter.watch(chain([first], paths))


def _open_classifier(options: InferOptions) -> Classifier:
    """Open the classifier. Nobody closes it, because an interrupted command would wait for its threads."""
    warnings.filterwarnings("ignore", module="PIL")  # each row has the error of its image
    Image.MAX_IMAGE_PIXELS = None  # --max-pixels is the limit
    return open_classifier(options)


def _open_writer(options: InferOptions, classifier: Classifier) -> Writer:
    if options.output in (None, "-"):
        for_people = options.output is None and options.format is None
        columns = Columns(options.top_k, options.unknown_rule is not None, options.features)
        row_format = Table(columns) if for_people else FORMATS[options.format or "csv"](columns)
        return StreamWriter(_unbuffered_stdout(), row_format, "stdout")
    settings = RowSettings(
        model_sha256=classifier.model_sha256,
        labels=classifier.labels,
        device=classifier.device,
        fast_math=options.fast_math,
        batch_size=options.batch_size or classifier.batch_size,
        background=options.background,
        max_pixels=options.max_pixels,
        top_k=options.top_k,
        unknown_rule=options.unknown_rule,
        features=options.features,
    )
    writer = result_writer(Path(str(options.output)), settings, options.resume, options.overwrite)
    if writer.is_complete:
        print(f"{options.output} is complete: no image is left to classify", file=sys.stderr)
    return writer


def _unbuffered_stdout() -> IO[bytes]:
    """Return stdout without its buffer. On Windows, a console then shows the letters of all languages."""
    buffered: Any = sys.stdout.buffer
    unbuffered: IO[bytes] = getattr(buffered, "raw", buffered)  # with PYTHONUNBUFFERED, there is no buffer
    return unbuffered


def _check_same_image(prediction: Prediction, path: str | None) -> None:
    """Check that ``path`` is the image of a row that an earlier run wrote.

    Raises:
        UsageError: It is another image, or there is none.
    """
    if path is None or prediction.path not in (path, valid_unicode(path)):  # Parquet stores valid Unicode only
        raise UsageError(
            f"--resume: the images have changed: there was {prediction.path}, now there is {path or 'none'}; start "
            "again with --overwrite instead of --resume"
        )


def _with_progress_bar(predictions: Iterable[Prediction], options: InferOptions) -> Iterable[Prediction]:
    """``predictions`` with a progress bar if stderr is a terminal and no rows appear on a terminal."""
    rows_are_shown = options.output in (None, "-") and sys.stdout.isatty()
    if rows_are_shown or not sys.stderr.isatty():
        return predictions
    from tqdm import tqdm  # imported late, because it takes a tenth of the time to the first prediction

    bar: Iterable[Prediction] = tqdm(predictions, unit=" images")
    return bar


def _summarize(options: InferOptions, classifier: Classifier, counters: _Counters, rate: float) -> None:
    """Print the summary and write the report."""
    about = classifier.metadata
    trained = printable(f"({about.get('dataset', 'unknown data')}, step {about.get('step', 'unknown')})")
    facts = {
        "Speed": f"{rate:.0f} images/s",
        "Device": classifier.device,
        "Model": f"{options.model} {trained}",
        "Date": f"{datetime.now():%Y-%m-%d %H:%M}",
    }
    if options.unknown_rule:
        facts["Minimum probability"] = f"{options.min_probability:g}"
    tally = counters.tally
    print(f"{tally.summary()}, {facts['Speed']}, device {facts['Device']}, model {facts['Model']}", file=sys.stderr)
    for line in tally.class_folders():
        print(line, file=sys.stderr)
    if counters.report and options.report:
        title = " ".join(options.paths) or f"files from {options.files_from}"
        _write_report(options.report, counters.report.html(title, facts))


def _write_report(path: Path, page: str) -> None:
    try:
        with signals_raise():
            write_file(path, page.encode("utf-8"))
    except OSError as error:
        raise OutputError(f"--report {path} cannot be written: {error.strerror}") from error
