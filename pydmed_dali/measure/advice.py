"""Which options to use: the fewest crops per chunk that reach the wanted speed, within a memory."""

from __future__ import annotations

from dataclasses import dataclass

from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import OptionError
from pydmed_dali.geometry import Size
from pydmed_dali.measure.costs import Costs
from pydmed_dali.measure.forecast import Forecast, Setting, SlideKind, forecast

REUSES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Crops per chunk that are looked at."""

_LARGEST_CHUNK, _SMALLEST_CHUNK = 4096, 512
_MOST_RESIDENT, _FEWEST_RESIDENT = 32, 4
_MOST_WORKERS = 16
_GOOD_ENOUGH = 0.8  # of the highest speed, where none is asked for


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user wants, and has."""

    crop: Size
    batch_size: int
    memory_bytes: int
    """For the ring and the batches in flight."""
    cores: int
    crops_per_second: float | None
    """The wanted speed; None for what costs little diversity."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Forecasts of all that was looked at, and which of them to use."""

    options: tuple[Forecast, ...]
    """In the order of their crops per chunk."""
    chosen: Forecast
    reaches: bool
    """Whether the wanted speed is reached."""


def advise(wishes: Wishes, costs: Costs, kind: SlideKind, dataset: Dataset) -> Advice:
    """The options to use. Raises `OptionError` where no ring fits into the memory."""
    options = tuple(_best_workers(wishes, n, costs, kind, dataset) for n in REUSES)
    fastest = max(option.crops_per_second for option in options)
    wanted = wishes.crops_per_second or _GOOD_ENOUGH * fastest
    enough = [option for option in options if option.crops_per_second >= wanted]
    if enough:
        return Advice(options, enough[0], True)
    best = next(option for option in options if option.crops_per_second >= 0.97 * fastest)
    return Advice(options, best, False)


def _best_workers(
    wishes: Wishes, crops_per_chunk: int, costs: Costs, kind: SlideKind, dataset: Dataset
) -> Forecast:
    """With so many workers as are fastest; of equals, the fewest.

    But the most where storage is waited for, so that some read while others decode.
    """
    counts = range(1, min(wishes.cores, _MOST_WORKERS) + 1)
    options = [
        forecast(_fitting(wishes, crops_per_chunk, n, kind), costs, kind, dataset, wishes.cores)
        for n in counts
    ]

    def rank(option: Forecast) -> tuple[int, int]:
        workers = option.setting.num_workers if option.limit == "storage" else 0
        return round(option.crops_per_second), workers

    return max(options, key=rank)


def _fitting(wishes: Wishes, crops_per_chunk: int, num_workers: int, kind: SlideKind) -> Setting:
    """The largest chunks, then the most of them, that the memory holds and the slides fill."""
    shorter = min(kind.extent.width, kind.extent.height)
    least = max(_SMALLEST_CHUNK, 2 * max(wishes.crop.width, wishes.crop.height))
    side = _LARGEST_CHUNK
    while side > least and side > shorter:
        side //= 2
    resident = min(_MOST_RESIDENT, wishes.batch_size)
    while True:
        setting = Setting(
            Size(side, side),
            wishes.crop,
            wishes.batch_size,
            resident,
            crops_per_chunk,
            num_workers,
        )
        if setting.ring_bytes + setting.batch_bytes <= wishes.memory_bytes:
            return setting
        if resident > _FEWEST_RESIDENT * 2:
            resident //= 2
        elif side > least:
            side, resident = side // 2, min(_MOST_RESIDENT, wishes.batch_size)
        elif resident > 1:
            resident //= 2
        else:
            needed = (setting.ring_bytes + setting.batch_bytes) / 2**30
            raise OptionError(
                f"{wishes.memory_bytes / 2**30:.2f} GiB hold no ring for batches of "
                f"{wishes.batch_size} crops of {wishes.crop}: the smallest needs {needed:.2f} GiB; "
                "give more memory, or a smaller batch or crop"
            )
