"""The number of CPUs that this process may use; in a container, often fewer than the machine has."""

import math
import os
from pathlib import Path

ROOT = Path("/")
"""The folder that contains proc/ and sys/; tests use another folder."""


def allowed_processors() -> int:
    """Return how many CPUs the affinity mask allows; all CPUs if the system has no affinity mask."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_processors(root: Path = ROOT) -> int:
    """Return the number of CPUs that the affinity mask and the cgroup limits permit, rounded up; at least 1.

    Args:
        root: The folder that contains proc/ and sys/.
    """
    return max(1, math.ceil(min(allowed_processors(), cgroup_limit(root))))


def cgroup_limit(root: Path = ROOT) -> float:
    """Return the number of CPUs, maybe a fraction, that the cgroups (v1 or v2) permit; infinity without a limit."""
    try:
        text = (root / "proc/self/cgroup").read_text("utf-8", "surrogateescape")
    except OSError:
        return math.inf
    limits = [math.inf]
    for _, controllers, group in (line.split(":", 2) for line in text.splitlines()):
        if not controllers:
            mount, names = "sys/fs/cgroup", ["cpu.max"]
        elif "cpu" in controllers.split(","):
            mount, names = "sys/fs/cgroup/cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        folder = Path(group.lstrip("/"))
        for level in (folder, *folder.parents):  # the limits of parent groups also apply
            limits.append(_limit([root / mount / level / name for name in names]))
    return min(limits)


def _limit(files: list[Path]) -> float:
    """Return quota / period, which are in one file (v2) or in two files (v1); infinity without a limit."""
    try:
        quota, period = " ".join(file.read_text("ascii") for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # the file is missing, or says "max"
        return math.inf
