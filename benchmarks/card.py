"""The head of a benchmark's output: machine, card, versions and command."""

from __future__ import annotations

import os
import platform
import sys
from datetime import date
from importlib import metadata

import numpy as np
import torch


def print_head(module: str, device: str) -> None:
    import nvidia.dali

    print(f"{date.today()}, {len(os.sched_getaffinity(0))} cores, {platform.machine()}")
    if device == "gpu":
        import cupy
        from cupy.cuda import runtime

        name, memory = torch.cuda.get_device_name(0), torch.cuda.mem_get_info()[1] / 2**30
        print(f"card: {name}, {memory:.0f} GiB, driver for CUDA {runtime.driverGetVersion()}")
        cupy_text = f", CuPy {cupy.__version__} (CUDA {runtime.runtimeGetVersion()})"
    else:
        print("card: none used")
        cupy_text = ""
    dali = [
        found.metadata["Name"]
        for found in metadata.distributions()
        if (found.metadata["Name"] or "").lower().startswith("nvidia-dali")
    ]
    print(
        f"Python {platform.python_version()}, {dali[0] if dali else 'DALI'} "
        f"{nvidia.dali.__version__}, torch {torch.__version__}{cupy_text}, numpy {np.__version__}"
    )
    print(f"command: python -m {module} {' '.join(sys.argv[1:])}\n", flush=True)


def print_row(*cells: object) -> None:
    """One row of a markdown table, at once, so that a run that is cut off leaves what it has."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def print_header(*names: str) -> None:
    print_row(*names)
    print("|" + "---|" * len(names), flush=True)
