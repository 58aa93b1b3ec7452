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
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from cifar10_runtime.cli import parser as command
from cifar10_runtime.cli import signals
from cifar10_runtime.cli.main import EXIT_OK, EXIT_SOME_FAILED, status_of
from cifar10_runtime.cluster.parts import Parts
from cifar10_runtime.cluster.sources import SUFFIXES, Partition, check_column, contents, partitions
from cifar10_runtime.engine.classifier import Classifier
from cifar10_runtime.engine.contract import read_labels
from cifar10_runtime.engine.open import open_classifier
from cifar10_runtime.errors import DeviceError, InferenceError, UsageError
from cifar10_runtime.options import RayOptions
from cifar10_runtime.results.rows import columns, values
from cifar10_runtime.results.tally import Tally
from cifar10_runtime.text import one_line
from cifar10_runtime.version import version_of

_SECONDS_TO_CONNECT = 10

_DESCRIPTION = """\
Classify images on a cluster of Ray: folders and prefixes of image files, tar shards (WebDataset) and Parquet files,
local or by a URL that fsspec knows (s3://bucket/prefix). Of folders, files ending in
{suffixes} are taken.

The results are Parquet files, part-000000.parquet and so on, which one after another have a row for each image with the
columns of cifar10-infer.
"""


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
    version = f"%(prog)s {version_of('cifar10-zoo')}"
    add("--version", action="version", version=version, help="print the version and exit")
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
        help="cluster of Ray: HOST:PORT, or auto for the one that this machine belongs to "
        "(default: $RAY_ADDRESS, else a new one)",
    )
    command.add_model_options(result)
    command.add_image_options(result)
    return result


def main(args: Sequence[str] | None = None) -> None:
    """Run the command with ``args`` (default: the command line) and exit."""
    signals.on_signals(signals.stop_at_once)
    sys.exit(status_of(lambda: _run(args)))


def _run(args: Sequence[str] | None) -> int:
    found = vars(parser().parse_args(args))
    options = RayOptions(**found | {"paths": tuple(found["paths"])})
    _check(options)
    ray = _import_ray()
    folder = Parts(options.output)
    parts = list(partitions(options.paths, options.partition_size, folder.root))
    if not parts:
        raise UsageError(f"no images in {' '.join(options.paths)}")
    check_column(parts, options.column)
    labels = read_labels(options.labels) if options.labels else None
    job = _job(options, parts)
    there = folder.there(job, options.resume)
    tally = Tally(job["labels"])
    for counts in there.values():
        tally.add_counts(counts)
    before = tally.images
    todo = [(number, part) for number, part in enumerate(parts) if number not in there]
    start = time.perf_counter()
    if todo:
        signals.on_signals(signals.raise_stopped)
        try:
            _start(ray, options)
            folder.claim(job)
            for counts in _classify(ray, todo, options, labels):
                tally.add_counts(counts)
        except ray.exceptions.RayError as error:
            raise InferenceError(f"Ray gave up: {one_line(getattr(error, 'cause', None) or error)}") from error
        finally:
            ray.shutdown()
    rate = (tally.images - before) / (time.perf_counter() - start)
    done = f" ({len(there)} of {len(parts)} partitions were there)" if there else ""
    print(f"{tally.summary()}, {rate:.0f} images/s, model {options.model}{done}", file=sys.stderr)
    if tally.in_class_folders:
        print(tally.accuracy(), file=sys.stderr)
    return EXIT_SOME_FAILED if tally.failed else EXIT_OK


def _check(options: RayOptions) -> None:
    if options.partition_size < 1:
        raise UsageError(f"--partition-size must be 1 or more, not {options.partition_size}")
    if options.device.startswith("cuda:"):
        raise UsageError(f"--device {options.device}: of cuda, Ray chooses the GPU for each worker")
    address = _address(options)
    if address in ("auto", "local"):
        return
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or not port.isdecimal():
        raise UsageError(f"--address must be auto or HOST:PORT, not {address}")
    try:  # Ray would wait for ever
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"--address {address} does not answer: {one_line(error)}") from None


def _address(options: RayOptions) -> str:
    return options.address or os.environ.get("RAY_ADDRESS") or "local"


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


def _job(options: RayOptions, parts: list[Partition]) -> dict[str, Any]:
    """All that decides on the rows but the images themselves; the model is tried on the way."""
    device = "cpu" if options.device in ("auto", "cuda") else options.device  # there may be no GPU here
    with open_classifier(replace(options, device=device)) as classifier:
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


def _start(ray: Any, options: RayOptions) -> None:
    """Join the cluster, or start one.

    Raises:
        InferenceError: it cannot be done.
        DeviceError: it lacks the GPUs that are asked for.
    """
    try:
        ray.init(_address(options), logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    except Exception as error:  # of many kinds
        raise InferenceError(f"Ray cannot be started: {one_line(error)}") from error
    signals.on_signals(signals.raise_stopped)  # again: Ray has put itself in the place
    if options.device == "cuda" and not _gpus(ray):
        raise DeviceError("--device cuda: the cluster has no GPU")


def _gpus(ray: Any) -> int:
    return int(ray.cluster_resources().get("GPU", 0))


def _classify(
    ray: Any, todo: list[tuple[int, Partition]], options: RayOptions, labels: list[str] | None
) -> Iterator[dict[str, int]]:
    """The counts of each partition, as they are done.

    Raises:
        InferenceError: a worker cannot go on.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)

    gpus = _gpus(ray) if options.device in ("auto", "cuda") else 0
    workers = gpus or int(ray.cluster_resources().get("CPU", 1))
    settings = {
        "output": options.output,
        "folder": os.getcwd(),
        "column": options.column,
        "top_k": options.top_k,
        "model": options.model,
        "device": "cuda" if gpus else options.device,
        "labels": labels,
        "background": options.background,
        "max_pixels": options.max_pixels,
        "threads": None if gpus else 1,
    }
    items = [{"number": number, "partition": json.dumps(asdict(part))} for number, part in todo]
    done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _Worker,
        fn_constructor_kwargs=settings,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=max(1, min(workers, len(todo)))),
        # Of whole processors there would be none left for Ray Data's own tasks, and it would wait for ever.
        num_cpus=0.9,
        num_gpus=1 if gpus else 0,
    )
    for row in done.iter_rows():
        if row["error"]:
            raise InferenceError(row["error"])
        yield json.loads(row["counts"])


class _Worker:
    """An actor: a model, and one partition at a time."""

    def __init__(self, output: str, folder: str, column: str, top_k: int, background: str, **about_model: Any) -> None:
        with suppress(OSError):  # on another machine
            os.chdir(folder)
        self._column, self._top_k = column, top_k
        self._error = ""
        try:
            self._parts = Parts(output)
            self._classifier = Classifier(background=background, **about_model)
        except InferenceError as error:  # Ray would start one worker after another
            self._error = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Classify the partition in ``batch``, write its part and count."""
        counts: dict[str, int] = {}
        if not self._error:
            about = json.loads(str(batch["partition"][0]))
            try:
                counts = self._classify(int(batch["number"][0]), Partition(about["kind"], tuple(about["paths"])))
            except InferenceError as error:
                self._error = str(error)
        return {"error": [self._error], "counts": [json.dumps(counts)]}

    def _classify(self, number: int, partition: Partition) -> dict[str, int]:
        if partition.kind == "files":
            predictions = self._classifier.classify(partition.paths)
        else:
            predictions = self._classifier.classify_contents(contents(partition, self._column))
        tally = Tally(self._classifier.labels)
        rows = []
        for prediction in predictions:
            tally.add(prediction)
            rows.append(dict(zip(columns(self._top_k), values(prediction, self._top_k), strict=True)))
        self._parts.write(number, rows, self._top_k, tally.counts())
        return tally.counts()


if __name__ == "__main__":
    main()
