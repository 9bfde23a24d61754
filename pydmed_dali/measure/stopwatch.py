"""Timing a stream of batches: crops per second, and the processor's time behind them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Timing:
    """One timed run of a loader."""

    crops: int
    """Crops that came."""
    seconds: float
    """How long that took."""
    own_seconds: float
    """Processor time of this process, all its threads, in seconds."""
    child_seconds: float
    """Processor time of its child processes, in seconds."""

    @property
    def crops_per_second(self) -> float:
        """Crops per second of wall time."""
        return self.crops / self.seconds


def time_batches(batches: Iterator[int], seconds: float, warm_up: float = 1.0) -> Timing:
    """Take batches for `warm_up` seconds, at least one, then for `seconds`, timed.

    `batches` gives the number of crops of each batch.
    """
    begun = time.perf_counter()
    next(batches)
    while time.perf_counter() - begun < warm_up:
        next(batches)
    crops, begun = 0, time.perf_counter()
    own, children = _processor_seconds()
    while time.perf_counter() - begun < seconds:
        crops += next(batches)
    elapsed = time.perf_counter() - begun
    own_after, children_after = _processor_seconds()
    return Timing(crops, elapsed, own_after - own, children_after - children)


def _processor_seconds() -> tuple[float, float]:
    """Of this process and of its children that live now."""
    children = 0.0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            children += times.user + times.system
    return time.process_time(), children
