"""Residency: which kind of ring a source has, by what it asked for and what the machine has."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, cast

from pydmed_dali.dali.device import Device
from pydmed_dali.dali.rings import HostRing, Ring, RingNeed
from pydmed_dali.errors import OptionError
from pydmed_dali.text import format_gib

logger = logging.getLogger("pydmed_dali.dali")

Residency = Literal["host", "device", "mapped"]


def choose_residency(asked: str, device: Device, need: RingNeed) -> Residency:
    """What was asked for; `auto` is `device` where the ring fits a GPU's memory, else `host`.

    Raises `OptionError` where the ring shall lie where a GPU reads it, but pipelines run on the
    CPU.
    """
    if device == "cpu":
        if asked in ("auto", "host"):
            return "host"
        raise OptionError(
            f"residency={asked!r} keeps the ring where a GPU reads it, but this source's pipelines "
            "run on the CPU; use residency='host' or 'auto', or device='gpu'"
        )
    if asked != "auto":
        return cast(Residency, asked)
    reason = _why_not_device(need)
    if reason is None:
        logger.info("residency: device, %s of GPU memory", format_gib(need.layout.ring_bytes))
        return "device"
    logger.warning("residency: host, crops are cut on the CPU, because %s", reason)
    return "host"


def open_ring(residency: Residency, need: RingNeed) -> Ring:
    """The ring. Raises `RingMemoryError` where it does not fit."""
    return RINGS[residency](need)


def _why_not_device(need: RingNeed) -> str | None:
    """Why the ring cannot lie in GPU memory, in words; None where it can."""
    try:
        from pydmed_dali.dali.cuda import free_gpu_memory

        free = free_gpu_memory(need.gpu)
    except Exception as error:  # CuPy missing, or built for another CUDA than the driver's
        return f"CuPy cannot use GPU {need.gpu} ({error!r}); `pydmed-dali doctor` says more"
    room = int(free * need.gpu_memory_share)
    if need.layout.ring_bytes <= room:
        return None
    return (
        f"the ring needs {format_gib(need.layout.ring_bytes)}, and "
        f"gpu_memory_share={need.gpu_memory_share:g} of the {format_gib(free)} that are free on "
        f"GPU {need.gpu} is {format_gib(room)}"
    )


def _device_ring(need: RingNeed) -> Ring:
    from pydmed_dali.dali.gpu_rings import device_ring

    return device_ring(need)


def _mapped_ring(need: RingNeed) -> Ring:
    from pydmed_dali.dali.gpu_rings import MappedRing

    return MappedRing(need)


RINGS: dict[str, Callable[[RingNeed], Ring]] = {
    "host": HostRing,
    "device": _device_ring,
    "mapped": _mapped_ring,
}
"""What opens a ring of each residency. CuPy is imported only for those of a GPU."""
