"""Connect to a Ray cluster and send the partitions to its workers."""

import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from cifar10_runtime.cli.signals import on_signals, raise_stopped
from cifar10_runtime.cluster.options import RayOptions
from cifar10_runtime.cluster.parts import Counts
from cifar10_runtime.cluster.sources import Partition
from cifar10_runtime.cluster.worker import PartitionWorker
from cifar10_runtime.errors import DeviceError, InferenceError, UsageError
from cifar10_runtime.text import one_line

_CONNECT_SECONDS = 10
_CPUS_PER_WORKER = 0.9
"""Less than 1, because Ray Data needs CPUs for its own tasks: if workers took all CPUs, Ray Data would wait forever."""


def check_address(options: RayOptions) -> None:
    """Check that the cluster answers, because Ray would wait for it forever.

    Raises:
        UsageError: The address is malformed, or does not answer.
    """
    address = _address(options)
    if address in ("auto", "local"):
        return
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or not port.isdecimal():
        raise UsageError(f"--address must be auto or HOST:PORT, not {address}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"--address {address} does not answer: {one_line(error)}") from None


def import_ray() -> Any:
    """Return the module ``ray``, with its usage statistics off unless RAY_USAGE_STATS_ENABLED is set.

    Raises:
        UsageError: Ray, fsspec or pyarrow is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import fsspec  # noqa: F401
        import pyarrow  # noqa: F401
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'cifar10-zoo[ray]'") from None
    return ray


@contextmanager
def connected(ray: Any, options: RayOptions) -> Iterator[None]:
    """Connect this process to the cluster that ``options`` name, or to a new cluster, while the block runs.

    Raises:
        InferenceError: Ray cannot be started, or an error of Ray ended the block.
        DeviceError: The options name GPUs, but the cluster has none.
    """
    try:
        _connect(ray, options)
        yield
    except ray.exceptions.RayError as error:
        raise InferenceError(f"Ray failed: {one_line(getattr(error, 'cause', None) or error)}") from error
    finally:
        ray.shutdown()


def classify_partitions(
    ray: Any, partitions: Mapping[int, Partition], options: RayOptions, labels: list[str]
) -> Iterator[Counts]:
    """Yield the counts of each partition, in the order in which workers finish.

    Args:
        ray: The module ``ray``.
        partitions: The partitions by number.
        options: The options of the command.
        labels: The names of the classes.

    Raises:
        InferenceError: A worker failed with an error that every other worker would have, too.
    """
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    gpus = _gpus(ray) if options.device in ("auto", "cuda") else 0
    cpus = int(ray.cluster_resources().get("CPU", 1))
    items = [{"number": number, "partition": json.dumps(asdict(partition))} for number, partition in partitions.items()]
    done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        PartitionWorker,
        fn_constructor_kwargs={
            "options": options,
            "labels": labels if options.labels else None,
            "threads": max(1, cpus // gpus) if gpus else 1,  # the GPUs of a machine share its CPUs
            "folder": os.getcwd(),
        },
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=max(1, min(gpus or cpus, len(items)))),
        num_cpus=_CPUS_PER_WORKER,
        num_gpus=1 if gpus else 0,
    )
    for row in done.iter_rows():
        if row["error"]:
            raise InferenceError(row["error"])
        yield json.loads(row["counts"])


def _connect(ray: Any, options: RayOptions) -> None:
    try:
        ray.init(_address(options), logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    except Exception as error:  # Ray raises many classes here
        raise InferenceError(f"Ray cannot be started: {one_line(error)}") from error
    on_signals(raise_stopped)  # again, because ray.init installs its own handlers
    if options.device == "cuda" and not _gpus(ray):
        raise DeviceError("--device cuda: the cluster has no GPU")


def _address(options: RayOptions) -> str:
    return options.address or os.environ.get("RAY_ADDRESS") or "local"


def _gpus(ray: Any) -> int:
    return int(ray.cluster_resources().get("GPU", 0))
