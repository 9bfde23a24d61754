"""How many processor cores there are to use."""

from __future__ import annotations

import os

from pydmed_dali.errors import OptionError

_MOST_PER_CORE = 4
_ALWAYS_ALLOWED = 64


def core_count() -> int:
    """Cores this process may use: its affinity, or its container's CPU quota if that is less."""
    cores = len(os.sched_getaffinity(0))
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def refuse_crowd(num_workers: int) -> None:
    """Raise `OptionError` for more loader processes than could ever help.

    Each takes a second of a core to start, and memory: a typing error must not take the machine.
    """
    cores = core_count()
    most = max(_ALWAYS_ALLOWED, _MOST_PER_CORE * cores)
    if num_workers > most:
        raise OptionError(
            f"num_workers={num_workers} is too many: each is a process, and there are {cores} "
            f"cores to use here; one a core is usual, {most} are the most, for storage that "
            "answers slowly"
        )
