"""The line under which a result is kept: when, on what, by which command."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import date
from pathlib import Path

import psutil


def headline(module: str, cores: int | None = None) -> list[str]:
    """Two lines: date and machine, and the command that `module` was started with."""
    allowed = len(os.sched_getaffinity(0))
    used = allowed if cores is None else min(cores, allowed)
    memory = psutil.virtual_memory().total / 2**30
    return [
        f"{date.today()}, {used} of {allowed} cores, {cpu_model()}, {memory:.0f} GiB, "
        f"Python {platform.python_version()}, no GPU used",
        f"command: python -m {module} {shlex.join(sys.argv[1:])}".rstrip(),
    ]


def cpu_model() -> str:
    """The processor as the kernel names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
