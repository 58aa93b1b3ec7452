"""The command cifar10-infer-ray: classify more images than one machine can, on a Ray cluster.

A worker reads, decodes and classifies one partition of the input at a time, then writes its results to one Parquet
file, the part. An incomplete part never appears. So a killed worker loses the work on one partition, and a killed job
loses the work on the partitions that its workers had not finished.
"""

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

from cifar10_runtime.cli.main import EXIT_OK, EXIT_SOME_FAILED, status_of
from cifar10_runtime.cli.signals import on_signals, raise_stopped, stop_at_once
from cifar10_runtime.cluster.dispatch import check_address, classify_partitions, connected, import_ray
from cifar10_runtime.cluster.options import RayOptions
from cifar10_runtime.cluster.parser import parse
from cifar10_runtime.cluster.parts import Job, Parts
from cifar10_runtime.cluster.sources import Partition, check_column, partitions
from cifar10_runtime.engine.open import open_classifier
from cifar10_runtime.errors import UsageError
from cifar10_runtime.images.other_files import OtherFiles
from cifar10_runtime.results.tally import Tally


def main(args: Sequence[str] | None = None) -> None:
    """Run the command with ``args`` (default: the command line) and exit."""
    on_signals(stop_at_once)
    sys.exit(status_of(lambda: _run(parse(args))))


def _run(options: RayOptions) -> int:
    """Classify every partition whose results do not exist yet, and return the exit status."""
    _check(options)
    ray = import_ray()
    results = Parts(options.output)
    others = OtherFiles()
    found = _find_partitions(options, results.root, others)
    job = _describe(options, found)
    finished = results.existing_parts(job, options.resume)
    tally = Tally(job.labels, has_unknown=options.unknown_rule is not None)
    for counts in finished.values():
        tally.add_counts(counts)
    images_before, start = tally.images, time.perf_counter()
    remaining = {number: partition for number, partition in enumerate(found) if number not in finished}
    if remaining:
        on_signals(raise_stopped)
        with connected(ray, options):
            results.claim(job)
            for counts in classify_partitions(ray, remaining, options, job.labels):
                tally.add_counts(counts)
    results.remove_temporary_files()
    rate = (tally.images - images_before) / (time.perf_counter() - start)
    resumed = f" ({len(finished)} of {len(found)} partitions were already done)" if finished else ""
    print(f"{tally.summary()}, {rate:.0f} images/s, model {options.model}{resumed}", file=sys.stderr)
    for line in tally.class_folders():
        print(line, file=sys.stderr)
    if passed_over := others.summary():
        print(passed_over, file=sys.stderr)
    return EXIT_SOME_FAILED if tally.failed else EXIT_OK


def _check(options: RayOptions) -> None:
    """Check the options that need neither Ray nor the model."""
    if options.partition_size < 1:
        raise UsageError(f"--partition-size must be 1 or more, not {options.partition_size}")
    if options.device.startswith("cuda:"):
        raise UsageError(f"--device {options.device}: use cuda, because Ray chooses the GPU of each worker")
    check_address(options)


def _find_partitions(options: RayOptions, results_root: str, others: OtherFiles) -> list[Partition]:
    found = list(partitions(options.paths, options.partition_size, results_root, others))
    if not found:
        raise UsageError(f"no images in {' '.join(options.paths)}")
    check_column(found, options.column)
    return found


def _describe(options: RayOptions, found: list[Partition]) -> Job:
    """Open the model once, which shows whether it works, and return the description of the job."""
    device = "cpu" if options.device in ("auto", "cuda") else options.device  # this machine may have no GPU
    with open_classifier(replace(options, device=device)) as classifier:
        return Job(
            model_sha256=classifier.model_sha256,
            labels=list(classifier.labels),
            background=options.background,
            max_pixels=options.max_pixels,
            top_k=options.top_k,
            column=options.column,
            partitions=len(found),
            partitions_sha256=hashlib.sha256(json.dumps([asdict(part) for part in found]).encode()).hexdigest(),
            unknown_rule=options.unknown_rule,
            features=options.features,
        )


if __name__ == "__main__":
    main()
