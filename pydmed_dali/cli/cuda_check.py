"""CUDA, for `pydmed-dali doctor`: whether the versions go together, and a trial on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from pydmed_dali.cli.check import Check

_DALI_WHEELS = (13, 12, 11)
_RESIDENCIES = ("device", "mapped", "host")


def cuda_check(gpus: int) -> Check:
    """The CUDA versions of the driver, DALI, CuPy and torch; a driver of 0 is none."""
    return judge(_driver(), {"DALI": _of_dali(), "CuPy": _of_cupy(), "torch": _of_torch()}, gpus)


def judge(driver: int, built_for: dict[str, int | None], gpus: int) -> Check:
    """Whether these go together. Versions are CUDA's own numbers: 12090 is 12.9."""
    known = {name: version for name, version in built_for.items() if version}
    found = f"driver {_text(driver)}; built for: " + ", ".join(
        f"{name} {_text(version)}" for name, version in built_for.items()
    )
    if not gpus:
        return Check("CUDA", "ok", found)
    newer = [name for name, version in known.items() if version // 1000 > driver // 1000]
    if newer:
        return Check(
            "CUDA",
            "failed",
            found,
            f"the driver is too old for {', '.join(newer)}: update it, or install builds for "
            f"CUDA {driver // 1000}",
        )
    if len({version // 1000 for version in known.values()}) > 1:
        return Check(
            "CUDA",
            "warning",
            found,
            "DALI advises one major version of CUDA in a process; `pydmed-dali doctor --gpu-test` "
            "tries whether these work together, and nvidia-dali-cuda120 and -cuda130, "
            "cupy-cuda12x and -cuda13x and torch's builds can be chosen to agree",
        )
    return Check("CUDA", "ok", found)


def gpu_trials(gpus: int) -> Iterator[Check]:
    """A small run in each residency on the first GPU, every pixel compared."""
    for residency in _RESIDENCIES:
        name = f"GPU test ({residency})"
        if not gpus:
            yield Check(name, "skipped", "not tried: there is no GPU that DALI can use")
            continue
        try:
            from pydmed_dali.cli.self_test import run_trial

            yield Check(name, "ok", run_trial("gpu", residency))
        except Exception as error:
            remedy = "use another residency, or device='cpu'; the error names what failed"
            yield Check(name, "failed", f"{type(error).__name__}: {error}", remedy)


def _text(version: int | None) -> str:
    if not version:
        return "none"
    return f"{version // 1000}" + (f".{version % 1000 // 10}" if version % 1000 else "")


def _driver() -> int:
    try:
        from cupy.cuda import runtime

        return int(runtime.driverGetVersion())
    except Exception:
        return 0


def _of_dali() -> int | None:
    """From the wheel's name: DALI tells its version of CUDA only where there is a driver."""
    for major in _DALI_WHEELS:
        try:
            metadata.version(f"nvidia-dali-cuda{major}0")
            return major * 1000
        except metadata.PackageNotFoundError:
            pass
    return None


def _of_cupy() -> int | None:
    try:
        from cupy.cuda import runtime

        return int(runtime.runtimeGetVersion())
    except Exception:
        return None


def _of_torch() -> int | None:
    try:
        import torch
    except Exception:
        return None
    if torch.version.cuda is None:
        return None
    major, minor = torch.version.cuda.split(".")[:2]
    return int(major) * 1000 + int(minor) * 10
