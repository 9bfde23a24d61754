"""What a set of options will do: speed, memory and diversity, from costs and the plan itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from pydmed_dali.dataset import Dataset
from pydmed_dali.geometry import Point, Size
from pydmed_dali.measure.costs import Costs
from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.placement import Placer
from pydmed_dali.plan.sampler import Sampler
from pydmed_dali.plan.touched_regions import decoded_pixels, touched_parts
from pydmed_dali.plan.window import Window
from pydmed_dali.ring.layout import Layout
from pydmed_dali.ring.packing import packed_crop

_DEPTH = 2  # batches in flight: the default prefetch depth
_VISITS = 4  # chunks whose crops are laid out, to see what they touch
_BATCHES = 8  # batches whose crops are counted, to see how they are mixed
_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class Setting:
    """The options that decide speed, memory and diversity."""

    chunk: Size
    crop: Size
    batch_size: int
    resident: int
    crops_per_chunk: int
    num_workers: int

    @property
    def ring_bytes(self) -> int:
        """Memory of the ring. Where it holds crops, each worker has a chunk of its own beside it if
        slides are not decoded directly.
        """
        window = Window(self.resident, self.crops_per_chunk, self.batch_size)
        slots = window.ring_size(_DEPTH, self.num_workers)
        packed = packed_crop(self.chunk, self.crop, self.crops_per_chunk)
        return Layout(slots, self.chunk, 0, self.crops_per_chunk, packed=packed).pixel_bytes

    @property
    def batch_bytes(self) -> int:
        """Memory of the batches in flight and the one that the training loop holds."""
        return (_DEPTH + 2) * self.batch_size * self.crop.area * _CHANNELS


@dataclass(frozen=True, slots=True)
class SlideKind:
    """What the slides are like, as far as it matters here."""

    extent: Size
    """Width and height of a usual slide, in pixels of the level that is read."""
    tile: Size
    """The file's storage cell, in the same pixels."""
    eligible: float = 1.0
    """Share of the slide from which crops are drawn: of its tissue, or 1."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected of a setting."""

    setting: Setting
    crops_per_second: float
    limit: str
    """What limits the speed: `reading`, `cropping`, `cores` where both share them, or the `storage`
    where the slides lie."""
    decode_amplification: float
    """Pixels decoded per pixel delivered."""
    slides_per_batch: float
    """Different slides in a batch, on average."""
    same_chunk_pairs: float
    """Share of the pairs of crops in a batch that come from the same BigChunk."""
    share_per_pass: float
    """Share of the area from which a usual slide's crops are drawn that one pass sees."""
    new_megapixels_per_second: float
    """Pixels, in millions, of a chunk that none of its crops showed before: what comes that is new,
    where `crops_per_second` counts what is shown again too."""
    memory_bytes: int
    """Of the ring and the batches in flight; the processes themselves come on top."""


def forecast(
    setting: Setting, costs: Costs, kind: SlideKind, dataset: Dataset, cores: int
) -> Forecast:
    """What a setting will do with slides of a kind, on so many cores."""
    decoded = decoded_per_chunk(setting, kind)
    fill = costs.chunk + costs.megapixel * decoded / 1e6
    speeds = {
        "reading": costs.efficiency * setting.num_workers * setting.crops_per_chunk / fill,
        "cropping": max(cores - setting.num_workers, 1) / costs.crop,  # it waits for nobody then
        "cores": costs.efficiency * cores / (fill / setting.crops_per_chunk + costs.crop),
    }
    stored = costs.storage_chunk + costs.storage_megapixel * decoded / 1e6
    if stored:
        speeds["storage"] = setting.crops_per_chunk / stored
    limit = min(speeds, key=lambda name: speeds[name])
    slides, pairs = _mixing(setting, dataset)
    return Forecast(
        setting=setting,
        crops_per_second=speeds[limit],
        limit=limit,
        decode_amplification=decoded / (setting.crops_per_chunk * setting.crop.area),
        slides_per_batch=slides,
        same_chunk_pairs=pairs,
        share_per_pass=_share_seen(setting, kind),
        new_megapixels_per_second=speeds[limit] * _new_pixels(setting, kind) / 1e6,
        memory_bytes=setting.ring_bytes + setting.batch_bytes,
    )


def decoded_per_chunk(setting: Setting, kind: SlideKind) -> float:
    """Pixels of a usual chunk's tiles that its crops touch, on average over a few visits."""
    placer = Placer(0, setting.chunk, setting.crop)
    found = []
    for visit in range(_VISITS):
        candidate = Candidate(0, 0, visit, 0)
        placement = placer.place(kind.extent, kind.tile, candidate, visit)
        crops = placer.crops(placement, candidate, visit, setting.crops_per_chunk)
        origin, tile = placement.origin, kind.tile
        offset = Point(origin.x % tile.width, origin.y % tile.height)
        parts = touched_parts(crops, setting.crop, placement.size, tile, offset)
        found.append(decoded_pixels(parts, tile, offset))
    return float(np.mean(found))


def _mixing(setting: Setting, dataset: Dataset) -> tuple[float, float]:
    """(different slides in a batch, share of pairs from one chunk), counted in the plan itself."""
    window = Window(setting.resident, setting.crops_per_chunk, setting.batch_size)
    sampler = Sampler(dataset, seed=0)
    begun = -(-setting.resident * setting.crops_per_chunk // setting.batch_size)
    slides, pairs = [], []
    for call in range(begun, begun + _BATCHES):
        crops = Counter(window.deal(call).chunk.tolist())
        slides.append(len({next(sampler.candidates(chunk)).slide for chunk in crops}))
        pairs.append(sum(count * (count - 1) for count in crops.values()))
    possible = setting.batch_size * (setting.batch_size - 1)
    return float(np.mean(slides)), float(np.mean(pairs)) / max(possible, 1)


def _share_seen(setting: Setting, kind: SlideKind) -> float:
    """A chunk's share of a slide, times the share of the chunk that its crops cover."""
    area = _chunk_area(setting, kind)
    share = min(area / (kind.extent.area * kind.eligible), 1.0)
    return share * _covered(setting, area)


def _new_pixels(setting: Setting, kind: SlideKind) -> float:
    """Pixels of a chunk that a crop shows and none before it did, on average over its crops."""
    area = _chunk_area(setting, kind)
    return area * _covered(setting, area) / setting.crops_per_chunk


def _chunk_area(setting: Setting, kind: SlideKind) -> int:
    width = min(setting.chunk.width, kind.extent.width)
    return width * min(setting.chunk.height, kind.extent.height)


def _covered(setting: Setting, area: int) -> float:
    """The share of a chunk that its crops cover if they fall independently: 1 - exp(-R * crop area
    / chunk area). Of tissue, a chunk is taken to be full.
    """
    return 1 - float(np.exp(-setting.crops_per_chunk * setting.crop.area / area))
