"""Lose one of two Ray nodes in the middle of a job, and compare the rows with the rows of cifar10-infer.

    python tests/stress/ray_nodes.py --images 20000

Both nodes are on this machine; one of them is killed, with its workers, once the first part exists. One image is
corrupt. The exit status is 1 if a row is missing or differs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.stress.ray_sources import INFER, INFER_ON_RAY, rows_of, write_images

PARTS = 40


def classify_and_lose_a_node(images: Path, output: Path, partition_size: int) -> str:
    """Run the command on two nodes, kill one of them, and return the last line that the command prints.

    Raises:
        SystemExit: The job ended before the node was lost, or its exit status is wrong.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        lost = cluster.add_node(num_cpus=2)
        words = (images, "--output", output, "--partition-size", partition_size, "--address", cluster.address)
        with subprocess.Popen(list(map(str, (INFER_ON_RAY, *words))), stderr=subprocess.PIPE, text=True) as process:
            while not list(output.glob("part-*")) and process.poll() is None:
                time.sleep(0.01)
            cluster.remove_node(lost, allow_graceful=False)
            done = len(list(output.glob("part-*")))
            _, errors = process.communicate()
    finally:
        cluster.shutdown()
    if done >= PARTS or process.returncode != 3:
        sys.exit(f"{errors}{done} of {PARTS} parts before the loss, exit status {process.returncode}; 3 was expected")
    return errors.splitlines()[-1]


def main() -> None:
    """Run the comparison."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images", type=int, default=20_000)
    count: int = options.parse_args().images
    with tempfile.TemporaryDirectory(prefix="ray-nodes-") as name:
        folder = Path(name)
        write_images(folder / "images", count)
        subprocess.run([INFER, folder / "images", "--output", folder / "expected.parquet"], check=False)
        start = time.perf_counter()
        print(classify_and_lose_a_node(folder / "images", folder / "out", count // PARTS))
        equal = rows_of(folder / "out") == rows_of(folder / "expected.parquet")
        seconds = time.perf_counter() - start
        print(f"{count} images in {seconds:.1f} s, a node lost, rows {'equal' if equal else 'DIFFER'}")
    sys.exit(not equal)


if __name__ == "__main__":
    main()
