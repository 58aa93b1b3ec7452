"""How many processors this process may use, which in a container is rarely what the machine has."""

import math
import os
from pathlib import Path

ROOT = Path("/")


def usable_processors(root: Path = ROOT) -> int:
    """The processors that affinity allows, or fewer where a cgroup allows less of their time; at least 1.

    Args:
        root: where /proc and /sys are.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, cgroup_limit(root))))


def cgroup_limit(root: Path = ROOT) -> float:
    """Processors' worth of time that the control groups of this process allow (v2 or v1), infinity for no limit."""
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return math.inf
    limits = [math.inf]
    for _, controllers, group in groups:
        if not controllers:
            mount, names = "sys/fs/cgroup", ["cpu.max"]
        elif "cpu" in controllers.split(","):
            mount, names = "sys/fs/cgroup/cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        folder = Path(group.lstrip("/"))
        for level in (folder, *folder.parents):  # a group is limited by those around it as well
            limits.append(_limit([root / mount / level / name for name in names]))
    return min(limits)


def _limit(files: list[Path]) -> float:
    """Quota by period, in one file or in two."""
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # no such file, or "max"
        return math.inf
