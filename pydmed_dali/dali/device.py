"""Which DALI backend a source's pipelines run on."""

from __future__ import annotations

import logging
from functools import cache
from typing import Literal

from nvidia.dali import backend_impl

from pydmed_dali.errors import OptionError
from pydmed_dali.machine import core_count as core_count

logger = logging.getLogger("pydmed_dali.dali")

Device = Literal["cpu", "gpu"]


@cache
def gpu_count() -> int:
    """GPUs that DALI can use here; 0 where there is no driver, or it shows none."""
    try:
        return int(backend_impl.GetCUDADeviceCount())
    except RuntimeError:  # of a driver whose GPUs are all hidden (CUDA_VISIBLE_DEVICES), or broken
        logger.info("DALI counts no CUDA GPUs", exc_info=True)
        return 0


def choose_device(device: str) -> Device:
    """`auto` is the GPU where there is one. Raises `OptionError` for a GPU that is not there."""
    if device == "auto":
        return "gpu" if gpu_count() else "cpu"
    if device == "cpu":
        return "cpu"
    if device != "gpu":
        raise OptionError(f"device must be 'auto', 'cpu' or 'gpu', not {device!r}")
    if not gpu_count():
        raise OptionError(
            "device='gpu' was asked for, but DALI finds no CUDA GPU here; use device='auto' or "
            "'cpu' (`pydmed-dali doctor` says what is missing)"
        )
    return "gpu"


def current_gpu() -> int:
    """The number of the GPU that torch uses here: of a rank, the one it chose for itself."""
    import torch

    return torch.cuda.current_device() if torch.cuda.is_available() else 0
