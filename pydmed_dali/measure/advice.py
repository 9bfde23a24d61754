"""Which options to use within a memory: the fewest crops per chunk that feed the training."""

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
_GOOD_ENOUGH = 0.9  # of the most new pixels per second, where no speed is asked for
_AS_FAST = 0.97  # of the highest speed, where the one asked for is not reached
_WITHOUT_A_SPEED = (
    "Chosen: the fewest crops per chunk that show new pixels as fast as any row, within 10%. "
    "More crops per chunk come faster, but show the same pixels again. Fewer are more varied: say "
    "what your training needs by --crops-per-second, and the most varied row is chosen that feeds "
    "it."
)


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What the user wants, and has."""

    crop: Size
    batch_size: int
    memory_bytes: int
    """For the ring and the batches in flight."""
    cores: int
    crops_per_second: float | None
    """The wanted speed; None where it is not known."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Forecasts of all that was looked at, and which of them to use."""

    options: tuple[Forecast, ...]
    """In the order of their crops per chunk."""
    chosen: Forecast
    reaches: bool
    """Whether the wanted speed is reached."""
    why: str
    """The rule by which it is chosen, as a sentence."""


def advise(wishes: PlanRequest, costs: Costs, kind: SlideKind, dataset: Dataset) -> Advice:
    """The options to use: the most varied that feed the training, so the fewest crops per chunk.

    With a wanted speed, the fewest that reach it. Where none does, the fewest within 3% of the
    highest speed. Without a wanted speed, the fewest that show within 10% of the most new pixels
    per second: more of them come faster, but show again what was shown.

    Raises `OptionError` where no ring fits into the memory.
    """
    options = tuple(_best_workers(wishes, n, costs, kind, dataset) for n in REUSES)
    wanted = wishes.crops_per_second
    if wanted is None:
        least = _GOOD_ENOUGH * max(option.new_megapixels_per_second for option in options)
        chosen = next(o for o in options if o.new_megapixels_per_second >= least)
        return Advice(options, chosen, True, _WITHOUT_A_SPEED)
    enough = [option for option in options if option.crops_per_second >= wanted]
    if enough:
        why = f"Chosen: the fewest crops per chunk that reach {wanted:,.0f} crops/s."
        return Advice(options, enough[0], True, why)
    least = _AS_FAST * max(option.crops_per_second for option in options)
    chosen = next(option for option in options if option.crops_per_second >= least)
    why = (
        f"{wanted:,.0f} crops/s are not reached. Chosen: the fewest crops per chunk within 3% of "
        "the highest speed."
    )
    return Advice(options, chosen, False, why)


def _best_workers(
    wishes: PlanRequest, crops_per_chunk: int, costs: Costs, kind: SlideKind, dataset: Dataset
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


def _fitting(
    wishes: PlanRequest, crops_per_chunk: int, num_workers: int, kind: SlideKind
) -> Setting:
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
