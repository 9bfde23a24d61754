"""`pydmed-dali doctor`: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pydmed_dali import __version__
from pydmed_dali.cli.check import Check
from pydmed_dali.cli.cuda_check import cuda_check, gpu_trials

_NOT_TRIED = "not tried, since an import failed"
_GIB = 2**30
_LOW_MEMORY = 4 * _GIB  # the default options' ring takes about 1.9 GB
_MARKS = {
    "ok": "[green]✓[/]",
    "warning": "[yellow]![/]",
    "failed": "[red]✗[/]",
    "skipped": "[dim]-[/]",
}


@dataclass(frozen=True, slots=True)
class Package:
    """A library that is imported to see whether it works."""

    module: str
    distribution: str
    remedy: str


_PACKAGES = (
    Package("numpy", "numpy", "pip install --force-reinstall numpy"),
    Package(
        "openslide",
        "openslide-python",
        "pip install --force-reinstall openslide-python openslide-bin",
    ),
    Package("tifffile", "tifffile", "pip install --force-reinstall tifffile"),
    Package("imagecodecs", "imagecodecs", "pip install --force-reinstall imagecodecs"),
    Package(
        "cv2", "opencv-python-headless", "pip install --force-reinstall opencv-python-headless"
    ),
    Package("simplejpeg", "simplejpeg", "pip install --force-reinstall simplejpeg"),
    Package("PIL", "pillow", "pip install --force-reinstall pillow"),
    Package("cloudpickle", "cloudpickle", "pip install --force-reinstall cloudpickle"),
    Package("psutil", "psutil", "pip install --force-reinstall psutil"),
    Package("matplotlib", "matplotlib", "pip install --force-reinstall matplotlib"),
    Package("torch", "torch", "install torch as https://pytorch.org/get-started says"),
    Package(
        "nvidia.dali",
        "nvidia-dali-cuda120",
        "pip install nvidia-dali-cuda120 --extra-index-url https://pypi.nvidia.com",
    ),
)
_CUPY = Package("cupy", "cupy-cuda12x", "pip install --force-reinstall cupy-cuda12x")


def examine(gpu_test: bool = False) -> list[Check]:
    """Look at everything, in the order in which it is shown; every check is guarded.

    `gpu_test` tries each residency on the GPU besides.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, when they are imported
        packages = [_package(package) for package in _PACKAGES]
        works = all(check.status == "ok" for check in packages)
        gpus = _gpu_count() if works else 0
        return [
            Check("pydmed-dali", "ok", __version__),
            Check("Python", "ok", f"{platform.python_version()} ({sys.executable})"),
            *packages,
            _openslide_library(),
            _cupy(gpus),
            *(_gpu(gpus) if works else [Check("GPU", "skipped", _NOT_TRIED)]),
            cuda_check(gpus),
            *_machine(),
            *_trials(works, gpus),
            *(gpu_trials(gpus) if gpu_test else ()),
        ]


def is_well(checks: list[Check]) -> bool:
    """Whether nothing that is needed is broken."""
    return all(check.status != "failed" for check in checks)


def as_dict(checks: list[Check]) -> dict[str, Any]:
    """Plain values for JSON."""
    return {"ok": is_well(checks), "checks": [asdict(check) for check in checks]}


def show_checks(console: Console, checks: list[Check]) -> None:
    """Print the table of all checks, then a remedy line for each that needs one."""
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        table.add_row(_MARKS[check.status], check.name, Text(check.found))
    console.print(table)
    for check in checks:
        if check.remedy is not None:
            console.print(f"\n{_MARKS[check.status]} {check.name}: ", end="")
            console.print(check.remedy, markup=False, soft_wrap=True)
    if is_well(checks):
        console.print("\n[green]All required checks passed.[/]")


def _package(package: Package) -> Check:
    try:
        module = importlib.import_module(package.module)
    except Exception as error:
        return Check(package.distribution, "failed", f"import failed: {error!r}", package.remedy)
    return Check(package.distribution, "ok", _version(module, package.distribution))


def _version(module: object, distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return str(getattr(module, "__version__", "version unknown"))


def _openslide_library() -> Check:
    try:
        import openslide

        return Check("OpenSlide library", "ok", openslide.__library_version__)
    except Exception:
        return Check("OpenSlide library", "skipped", "openslide-python is needed to load it")


def _cupy(gpus: int) -> Check:
    """CuPy holds the ring in GPU memory, so it is needed only where there is a GPU."""
    check = _package(_CUPY)
    if check.status == "ok" or gpus:
        return check
    return Check(check.name, "warning", f"{check.found}; needed only with a GPU", check.remedy)


def _gpu_count() -> int:
    with suppress(Exception):
        from pydmed_dali.dali.device import gpu_count

        return gpu_count()
    return 0


def _gpu(gpus: int) -> Iterator[Check]:
    """What DALI, torch and CuPy see of a GPU; none at all is no error."""
    if not gpus:
        yield _no_gpu()
        return
    yield Check("GPU", "ok", f"DALI finds {gpus}")
    yield _gpu_for_torch()
    with suppress(ImportError):
        yield _gpu_for_cupy()


def _gpu_for_torch() -> Check:
    """Whether torch sees a GPU, and computes on it: a build may lack the code for this card."""
    import torch

    name, remedy = "GPU for torch", "give every source device='cpu', or install a CUDA build of "
    remedy += "torch that is made for this card and driver (https://pytorch.org/get-started)"
    if not torch.cuda.is_available():
        found = f"torch {torch.__version__} cannot use the GPU that DALI finds"
        return Check(name, "failed", found, remedy)
    try:
        torch.ones(2, device="cuda").sum().item()
    except Exception as error:
        found = f"torch {torch.__version__} computes nothing on {torch.cuda.get_device_name(0)}"
        return Check(name, "failed", f"{found}: {error}"[:300], remedy)
    return Check(name, "ok", torch.cuda.get_device_name(0))


def _gpu_for_cupy() -> Check:
    import cupy

    try:
        return Check("GPU for CuPy", "ok", f"CuPy finds {cupy.cuda.runtime.getDeviceCount()}")
    except Exception as error:
        remedy = f"install the CuPy that fits the driver: {_CUPY.remedy}"
        return Check("GPU for CuPy", "failed", f"CuPy finds none: {error!r}", remedy)


def _no_gpu() -> Check:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        found = "none: there is no NVIDIA driver (libcuda.so.1); all runs on the CPU"
        return Check("GPU", "ok", found)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return Check(
        "GPU",
        "warning",
        "none, though there is an NVIDIA driver; all runs on the CPU",
        "see whether `nvidia-smi` lists a GPU"
        + (f"; CUDA_VISIBLE_DEVICES is {visible!r}" if visible is not None else ""),
    )


def _machine() -> Iterator[Check]:
    """Cores and memory, as far as the modules that count them can be imported."""
    affinity = len(os.sched_getaffinity(0))
    with suppress(ImportError, OSError):
        from pydmed_dali.dali.device import core_count

        limit = "" if core_count() == affinity else f" of {affinity}: the container's CPU quota"
        yield Check("cores", "ok", f"{core_count()}{limit}")
    with suppress(ImportError, OSError):
        from pydmed_dali.ring.memory import free_memory

        free = free_memory()
        yield Check(
            "free memory",
            "ok" if free >= _LOW_MEMORY else "warning",
            f"{free / _GIB:.1f} GiB",
            None if free >= _LOW_MEMORY else "lower `resident` or `chunk_size` of your sources",
        )


def _trials(works: bool, gpus: int) -> Iterator[Check]:
    """A worker and a pipeline at work, on each device there is."""
    for device in ("cpu", "gpu") if gpus else ("cpu",):
        name = f"worker and pipeline ({device})"
        if not works:
            yield Check(name, "skipped", _NOT_TRIED)
            continue
        try:
            from pydmed_dali.cli.self_test import run_trial

            yield Check(name, "ok", run_trial(device))
        except Exception as error:
            yield Check(
                name,
                "failed",
                f"{type(error).__name__}: {error}",
                "the error names what failed; if a library's version is at fault, "
                "pip install --force-reinstall pydmed-dali",
            )
