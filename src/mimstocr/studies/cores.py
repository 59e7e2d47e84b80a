"""How many cores this process may use, which in a container or a batch job are fewer than the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def usable_cores(root: Path = Path("/")) -> int:
    """Cores of its affinity, within the CPU quotas of its control groups; at least 1. root: of the file system."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(int(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Cores that each control group allows, from the process's own up to the outermost that can be seen."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:  # 0::/place is version 2; 4:cpu,cpuacct:/place version 1
        _, controllers, place = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        own = mount / place.lstrip("/")
        for folder in (own, *own.parents):
            quota = _limit(folder)
            if quota is not None:
                yield quota
            if folder == mount:
                break


def _limit(folder: Path) -> float | None:
    """Cores that one control group allows; none: as many as there are, or nothing is told."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # not there, or `max`
        return None
