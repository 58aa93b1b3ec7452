"""The command cifar10-infer-ray: more images than one machine can classify, on a cluster of Ray.

Each partition of the input is read, decoded, classified and written by one actor, as a Parquet file that is there
completely or not at all. A worker that dies costs the partition that it was working on, a job that dies those of all
workers.
"""

import argparse
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from cifar10_runtime import command, parquet
from cifar10_runtime.classifier import Classifier
from cifar10_runtime.command import EXIT_OK, EXIT_SOME_FAILED, Stopped
from cifar10_runtime.errors import InferenceError, OutputError, UsageError
from cifar10_runtime.rows import columns, values
from cifar10_runtime.run import read_labels, try_elsewhere
from cifar10_runtime.sources import (
    SUFFIXES,
    Partition,
    check_column,
    contents,
    file_system,
    is_url,
    partitions,
    reason,
)
from cifar10_runtime.tally import Tally

JOB = "job.json"
"""What the partitions of an output folder are of; the rest of its files are theirs."""

_DESCRIPTION = """\
Classify images on a cluster of Ray: folders and prefixes of image files, tar shards (WebDataset) and Parquet files,
local or by a URL that fsspec knows (s3://bucket/prefix). Of folders, files ending in
{suffixes} are taken.

The results are Parquet files, part-000000.parquet and so on, which one after another have a row for each image with the
columns of cifar10-infer.
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says; ``parser`` documents each."""

    paths: tuple[str, ...]
    output: str
    partition_size: int
    column: str
    model: str
    labels: Path | None
    device: str
    background: str
    max_pixels: int
    top_k: int
    address: str | None
    resume: bool


def parser() -> argparse.ArgumentParser:
    """The parser of all options."""
    result = command.Parser(
        "cifar10-infer-ray",
        description=_DESCRIPTION.format(suffixes=" ".join(SUFFIXES)),
        epilog=command.EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("paths", nargs="+", metavar="PATH", help="folders, files, quoted glob patterns or URLs")
    add("--output", required=True, metavar="FOLDER", help="folder or URL for the Parquet files; new, or empty")
    add("--resume", action="store_true", help="go on where the same command was interrupted, if it was")
    add(
        "--partition-size",
        type=int,
        default=10_000,
        metavar="N",
        help="image files that are classified together, into one Parquet file (default: 10000)",
    )
    add("--column", default="image", metavar="NAME", help="column of images in Parquet files (default: image)")
    add("--top-k", type=int, default=1, metavar="K", help="labels a row (default: 1)")
    add(
        "--address",
        metavar="ADDRESS",
        help="cluster of Ray; auto for the one that this machine belongs to (default: $RAY_ADDRESS, else a new one)",
    )
    command.add_model_options(result)
    command.add_image_options(result)
    return result


def main(args: Sequence[str] | None = None) -> None:
    """Run the command with ``args`` (default: the command line) and exit."""
    sys.exit(command.status_of(lambda: _run(args)))


def _run(args: Sequence[str] | None) -> int:
    found = vars(parser().parse_args(args))
    options = Options(**found | {"paths": tuple(found["paths"])})
    if options.partition_size < 1:
        raise UsageError(f"--partition-size must be 1 or more, not {options.partition_size}")
    ray = _import_ray()
    parts = list(partitions(options.paths, options.partition_size))
    if not parts:
        raise UsageError(f"no images in {' '.join(options.paths)}")
    check_column(parts, options.column)
    labels = read_labels(options.labels) if options.labels else None
    job = _job(options, labels, parts)
    todo = _Folder(options.output).begin(job, len(parts), options.resume)
    tally = Tally(job["labels"])
    start = time.perf_counter()
    try:
        command.on_signals(_stop)
        for counts in _classify(ray, [(number, parts[number]) for number in todo], options, labels):
            tally.add_counts(counts)
    except ray.exceptions.RayError as error:
        raise InferenceError(f"Ray gave up: {reason(error)}") from error
    finally:
        ray.shutdown()
    rate = tally.images / (time.perf_counter() - start)
    done = f" ({len(parts) - len(todo)} of {len(parts)} partitions were there)" if len(todo) < len(parts) else ""
    print(f"{tally.summary()}, {rate:.0f} images/s, model {options.model}{done}", file=sys.stderr)
    if tally.in_class_folders:
        print(tally.accuracy(), file=sys.stderr)
    return EXIT_SOME_FAILED if tally.failed else EXIT_OK


def _stop(signal_number: int, _frame: object) -> None:
    raise Stopped(signal_number)


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import fsspec  # noqa: F401
        import pyarrow  # noqa: F401
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'cifar10-zoo[ray]'") from None
    return ray


def _job(options: Options, labels: list[str] | None, parts: list[Partition]) -> dict[str, Any]:
    """All that decides on the rows but the images themselves; the model is tried on the way."""
    try_elsewhere(options.model, "cpu", options.labels)
    with Classifier(options.model, "cpu", False, labels, options.background, options.max_pixels) as classifier:
        if not 1 <= options.top_k <= len(classifier.labels):
            raise UsageError(f"--top-k must be between 1 and {len(classifier.labels)}, not {options.top_k}")
        listed = json.dumps([asdict(part) for part in parts]).encode()
        return {
            "model_sha256": classifier.model_sha256,
            "labels": list(classifier.labels),
            "background": options.background,
            "max_pixels": options.max_pixels,
            "top_k": options.top_k,
            "column": options.column,
            "partitions": len(parts),
            "partitions_sha256": hashlib.sha256(listed).hexdigest(),
        }


def _classify(
    ray: Any, todo: list[tuple[int, Partition]], options: Options, labels: list[str] | None
) -> Iterable[dict[str, int]]:
    """The counts of each partition, as they are done."""
    if not todo:
        return ()
    address = options.address or os.environ.get("RAY_ADDRESS", "local")
    ray.init(address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)

    resources = ray.cluster_resources()
    on_gpus = options.device.startswith("cuda") or (options.device == "auto" and resources.get("GPU", 0) >= 1)
    workers = int(resources.get("GPU" if on_gpus else "CPU", 1))
    settings = {
        "output": options.output,
        "folder": os.getcwd(),
        "column": options.column,
        "top_k": options.top_k,
        "model": options.model,
        "device": "cuda" if on_gpus else options.device,
        "labels": labels,
        "background": options.background,
        "max_pixels": options.max_pixels,
        "threads": None if on_gpus else 1,
    }
    items = [{"number": number, "partition": json.dumps(asdict(part))} for number, part in todo]
    done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _Worker,
        fn_constructor_kwargs=settings,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=max(1, min(workers, len(todo)))),
        # Of whole processors there would be none left for Ray Data's own tasks, and it would wait for ever.
        num_cpus=0.9,
        num_gpus=1 if on_gpus else 0,
    )
    rows: Iterable[dict[str, int]] = done.iter_rows()
    return rows


class _Worker:
    """An actor: a model, and one partition at a time."""

    def __init__(self, output: str, folder: str, column: str, top_k: int, background: str, **about_model: Any) -> None:
        with suppress(OSError):  # on another machine
            os.chdir(folder)
        self._folder, self._column, self._top_k = _Folder(output), column, top_k
        self._classifier = Classifier(background=background, **about_model)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """Classify the partition in ``batch``, write its file and count."""
        about = json.loads(str(batch["partition"][0]))
        partition = Partition(about["kind"], tuple(about["paths"]))
        if partition.kind == "files":
            predictions = self._classifier.classify(partition.paths)
        else:
            predictions = self._classifier.classify_contents(contents(partition, self._column))
        tally = Tally(self._classifier.labels)
        rows = []
        for prediction in predictions:
            tally.add(prediction)
            rows.append(dict(zip(columns(self._top_k), values(prediction, self._top_k), strict=True)))
        self._folder.write(int(batch["number"][0]), rows, self._top_k)
        return {name: [count] for name, count in tally.counts().items()}


class _Folder:
    """The folder or prefix of the results."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_local = not is_url(name)
        try:
            self._system, self._root = file_system(name)
        except Exception as error:  # an unknown protocol, a package that is missing
            raise UsageError(f"--output {name}: {reason(error)}") from None

    def begin(self, job: dict[str, Any], count: int, resume: bool) -> list[int]:
        """The numbers of the partitions that are not there yet.

        Raises:
            UsageError: there are results that are not to be resumed, or others.
            OutputError: nothing can be written there.
        """
        try:
            self._make()
            there = self._names()
            if there:
                self._require_same(job, there, resume)
            else:
                self._put(JOB, json.dumps(job, indent=2).encode())
        except UsageError:
            raise
        except Exception as error:  # of whatever store it is
            raise OutputError(f"--output {self._name} cannot be written: {reason(error)}") from error
        return [number for number in range(count) if _part(number) not in there]

    def _make(self) -> None:
        if self._is_local:
            self._system.makedirs(self._root, exist_ok=True)
        else:  # without parents: a bucket by a wrong name is not made but an error
            with suppress(FileExistsError):
                self._system.mkdir(self._root, create_parents=False)

    def _names(self) -> set[str]:
        try:
            paths = self._system.ls(self._root, detail=False)
        except FileNotFoundError:  # an object store has no empty folders
            return set()
        return {path.rstrip("/").rpartition("/")[2] for path in paths} - {""}

    def _require_same(self, job: dict[str, Any], there: set[str], resume: bool) -> None:
        if JOB not in there:
            raise UsageError(f"--output {self._name} is not empty: name a new folder")
        if json.loads(self._system.cat_file(f"{self._root}/{JOB}")) != job:
            raise UsageError(
                f"--output {self._name} has results of other images, another model or other options: name a new folder"
            )
        if not resume:
            raise UsageError(f"--output {self._name} has results of this job: --resume goes on with it")

    def write(self, number: int, rows: list[dict[str, Any]], top_k: int) -> None:
        """A partition's rows, whole or not at all."""
        buffer = BytesIO()
        with parquet.writer(buffer, top_k) as writer:
            writer.write_table(parquet.table(rows, top_k))
        self._put(_part(number), buffer.getvalue())

    def _put(self, name: str, content: bytes) -> None:
        if not self._is_local:
            self._system.pipe_file(f"{self._root}/{name}", content)  # which object stores do as a whole
            return
        path = Path(self._root, name)
        temporary = path.with_name(f".{name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _part(number: int) -> str:
    return f"part-{number:06d}.parquet"


if __name__ == "__main__":
    main()
