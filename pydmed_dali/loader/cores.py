"""How many processor cores there are to use."""

from __future__ import annotations

import os


def core_count() -> int:
    """Cores this process may use: its affinity, or its container's CPU quota if that is less."""
    cores = len(os.sched_getaffinity(0))
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
