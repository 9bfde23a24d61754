"""What this process and those it started use: processor time, memory, file descriptors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

_T = TypeVar("_T", int, float)


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of one process, in bytes."""

    rss: int
    """Resident: shared pages count in every process that has touched them."""
    pss: int
    """Proportional: a page that n processes have touched counts 1/n in each, so sums are true."""
    own: int
    """Proportional without pages of files: what was allocated, privately or shared within the tree.
    Unlike the other two it does not depend on who else runs the same libraries, nor on which pages
    of them have been needed so far."""


def family() -> list[psutil.Process]:
    """This process first, then all that it started, directly or not, by process id."""
    own = psutil.Process()
    return [own, *sorted(own.children(recursive=True), key=lambda process: process.pid)]


def cpu_seconds() -> float:
    """Processor seconds, user and system, that the whole tree used so far."""
    return _sum_up(_cpu_seconds)


def disk_bytes() -> int:
    """Bytes that the living processes of the tree had the kernel fetch from a disk so far."""
    return _sum_up(lambda process: int(process.io_counters().read_bytes))


def tree_pss() -> int:
    """Bytes of memory that the whole tree uses: the sum of its processes' proportional sets."""
    return _sum_up(lambda process: memory(process.pid).pss)


def memory(pid: int) -> Memory:
    """The memory of a process, from the kernel's summary of its mappings."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        sizes[name] = int(value.split()[0]) * 1024
    return Memory(sizes["Rss"], sizes["Pss"], sizes["Pss_Anon"] + sizes["Pss_Shmem"])


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    reaped = float(times.children_user + times.children_system)
    return float(times.user + times.system) + reaped


def _sum_up(measure: Callable[[psutil.Process], _T]) -> _T:
    """The sum over the tree; a process that ends meanwhile counts nothing."""
    total: _T = 0
    for process in family():
        with suppress(psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):
            total += measure(process)
    return total
