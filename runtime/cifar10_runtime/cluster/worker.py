"""The Ray actor that classifies partitions."""

import json
import os
from contextlib import suppress
from functools import cached_property
from typing import Any

from cifar10_runtime.cluster.options import RayOptions
from cifar10_runtime.cluster.parts import Counts, Parts
from cifar10_runtime.cluster.sources import Partition, contents
from cifar10_runtime.engine.classifier import Classifier
from cifar10_runtime.errors import InferenceError
from cifar10_runtime.results.rows import Columns
from cifar10_runtime.results.tally import Tally


class PartitionWorker:
    """An actor with one model, which classifies one partition per call.

    Args:
        options: The options of the command, with the device of this worker.
        labels: Names of the classes to use instead of those in the model's metadata, or None.
        threads: Threads that decode and, on a CPU, classify.
        folder: The working directory of the command, for relative paths.
    """

    def __init__(self, options: RayOptions, labels: list[str] | None, threads: int, folder: str) -> None:
        with suppress(OSError):  # another machine may not have the directory
            os.chdir(folder)
        self._options, self._labels, self._threads = options, labels, threads

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Classify the partition in ``batch``, write its part (the Parquet file of results), and return its counts.

        Returns:
            One row with the counts as JSON, or with the error that stops the job. The error is returned, not raised,
            because Ray starts another worker after each exception.
        """
        partition = json.loads(str(batch["partition"][0]))
        try:
            counts = self._classify(int(batch["number"][0]), Partition(partition["kind"], tuple(partition["paths"])))
        except InferenceError as error:
            return {"error": [str(error)], "counts": ["{}"]}
        return {"error": [""], "counts": [json.dumps(counts)]}

    @cached_property
    def _classifier(self) -> Classifier:
        options = self._options
        return Classifier(
            options.model,
            options.device,
            labels=self._labels,
            background=options.background,
            max_pixels=options.max_pixels,
            threads=self._threads,
            min_probability=options.min_probability,
            unknown_label=options.unknown_label,
            features=options.features,
        )

    @cached_property
    def _parts(self) -> Parts:
        return Parts(self._options.output)

    def _classify(self, number: int, partition: Partition) -> Counts:
        if partition.kind == "files":
            predictions = self._classifier.classify(partition.paths, top_k=self._options.top_k)
        else:
            predictions = self._classifier.classify_contents(
                contents(partition, self._options.column), top_k=self._options.top_k
            )
        options = self._options
        columns = Columns(options.top_k, options.unknown_rule is not None, options.features)
        names, tally, rows = columns.names, Tally(self._classifier.labels), []
        for prediction in predictions:
            tally.add(prediction)
            rows.append(dict(zip(names, columns.values(prediction), strict=True)))
        self._parts.write(number, rows, columns, tally.counts())
        return tally.counts()
