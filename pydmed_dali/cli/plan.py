"""`pydmed-dali plan`: which options to use for given slides and memory, and what to expect."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console, JustifyMethod
from rich.table import Table

from pydmed_dali.dali.device import core_count
from pydmed_dali.dataset import Dataset, Patient, Record
from pydmed_dali.errors import SlideError
from pydmed_dali.geometry import Size
from pydmed_dali.measure.advice import Advice, PlanRequest, advise
from pydmed_dali.measure.costs import TYPICAL, Costs, measure_costs
from pydmed_dali.measure.forecast import Forecast, Setting, SlideKind
from pydmed_dali.ring.memory import free_memory
from pydmed_dali.slide.cache import Cache, cache_folder
from pydmed_dali.slide.scale import Scale as ViewScale
from pydmed_dali.slide.view import View
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader

TYPICAL_KIND = SlideKind(Size(80_000, 60_000), Size(256, 256))
TYPICAL_SLIDES = 1000
_LOOKED_AT = 9  # slides that are opened to see what they are like
_TRIAL_CHUNK, _TRIAL_RESIDENT = 4096, 16
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """What a plan is made for."""

    dataset: Dataset
    kind: SlideKind
    costs: Costs
    measured: bool
    """Whether the costs were found by timing reads of these slides."""


@dataclass(frozen=True, slots=True)
class Scale:
    """At which resolution slides are read, and how much tissue crops must have by which masks."""

    level: int | None
    mpp: float | None
    min_tissue: float | None
    magnification: float | None = None
    default_mpp: float | None = None
    mpp_override: float | None = None
    masks: str | None = None
    tissue_values: str | None = None
    frame: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What was asked for, as arguments of `BigChunkSource`."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def views(self) -> ViewScale:
        """What was asked for, without the tissue."""
        return ViewScale(
            self.level, self.mpp, self.magnification, self.default_mpp, self.mpp_override
        )


def usual_request(
    crop: Size, batch_size: int, memory_gib: float | None, crops_per_second: float | None
) -> PlanRequest:
    """Wishes, with half of the free memory and all cores where nothing else is said."""
    memory = free_memory() // 2 if memory_gib is None else int(memory_gib * _GIB)
    return PlanRequest(crop, batch_size, memory, core_count(), crops_per_second)


def study_slides(folder: Path, wishes: PlanRequest, scale: Scale, seconds: float) -> PlanInputs:
    """Look at some of the slides and time two short runs over all of them.

    Raises `DatasetError` where there are none, and `SlideError` where none can be read.
    """
    dataset = Dataset.from_folder(folder)
    views = _look_at(dataset, scale)
    extent = Size(
        int(statistics.median(view.dimensions.width for view in views)),
        int(statistics.median(view.dimensions.height for view in views)),
    )
    side = min(_TRIAL_CHUNK, max(extent.width, wishes.crop.width))
    ring = Setting(Size(side, side), wishes.crop, wishes.batch_size, _TRIAL_RESIDENT, 32, 2)
    resident = _TRIAL_RESIDENT if ring.ring_bytes <= wishes.memory_bytes else 2
    options = {
        "chunk_size": side,
        "crop_size": wishes.crop,
        "batch_size": wishes.batch_size,
        "resident": resident,
        **scale.options,
    }
    costs, share = measure_costs(dataset, options, seconds)
    return PlanInputs(dataset, SlideKind(extent, views[0].tile, share), costs, True)


def typical_study() -> PlanInputs:
    """A thousand slides of a usual size, at the costs of a usual core: nothing is measured."""
    patients = (
        Patient(f"{n:04}", (Record(Path("/"), PurePosixPath(f"{n:04}.svs")),))
        for n in range(TYPICAL_SLIDES)
    )
    return PlanInputs(Dataset(tuple(patients)), TYPICAL_KIND, TYPICAL, False)


def plan_options(study: PlanInputs, wishes: PlanRequest) -> Advice:
    """The options for a study."""
    return advise(wishes, study.costs, study.kind, study.dataset)


def as_dict(study: PlanInputs, wishes: PlanRequest, advice: Advice, scale: Scale) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
        "measured": study.measured,
        "slides": len(study.dataset.slides),
        "slide_extent": [study.kind.extent.width, study.kind.extent.height],
        "cores": wishes.cores,
        "memory_gib": wishes.memory_bytes / _GIB,
        "wanted_crops_per_second": wishes.crops_per_second,
        "reached": advice.reaches,
        "why": advice.why,
        "options": source_options(advice.chosen.setting, scale),
        "expected": _expected(advice.chosen),
        "alternatives": [
            {"crops_per_chunk": f.setting.crops_per_chunk, **_expected(f)} for f in advice.options
        ],
    }


def source_options(setting: Setting, scale: Scale) -> dict[str, Any]:
    """The arguments of `BigChunkSource` beside the dataset."""
    return {
        "chunk_size": setting.chunk.width,
        "crop_size": setting.crop.width,
        "batch_size": setting.batch_size,
        **scale.options,
        "resident": setting.resident,
        "crops_per_chunk": setting.crops_per_chunk,
        "num_workers": setting.num_workers,
    }


def show_plan(
    console: Console, study: PlanInputs, wishes: PlanRequest, advice: Advice, scale: Scale
) -> None:
    """Print what was looked at, the table of reuse, and the exact options."""
    origin = "timed here" if study.measured else "typical figures; name your slides to time them"
    extent = study.kind.extent
    console.print(
        f"{len(study.dataset.slides)} slides of about {extent} pixels, {wishes.cores} cores, "
        f"{wishes.memory_bytes / _GIB:.1f} GiB for the ring ({origin})\n"
    )
    console.print(_table(advice))
    console.print()
    console.print(advice.why, highlight=False)
    if not advice.reaches:
        console.print(f"What limits: {_remedy(advice.chosen.limit)}.", highlight=False)
    console.print()
    console.print("BigChunkSource(")
    console.print("    dataset,")
    for name, value in source_options(advice.chosen.setting, scale).items():
        console.print(f"    {name}={value!r},", highlight=False, markup=False)
    console.print(")")


def _look_at(dataset: Dataset, scale: Scale) -> list[View]:
    """The views of some slides, spread over the dataset; those that cannot be opened are left."""
    loader = BigChunkLoader()
    loader.cache = Cache(cache_folder(None))
    step = max(len(dataset.slides) // _LOOKED_AT, 1)
    views, failed = [], None
    for record in dataset.slides[::step]:
        try:
            slide = loader.open_slide(record.path)
        except SlideError as error:
            failed = error
            continue
        try:
            views.append(scale.views.view(slide.facts, record.path))
        except SlideError as error:
            failed = error
        finally:
            slide.close()
    if not views and failed is not None:
        raise failed
    return views


def _expected(found: Forecast) -> dict[str, Any]:
    return {
        "crops_per_second": found.crops_per_second,
        "limit": found.limit,
        "memory_gib": found.memory_bytes / _GIB,
        "decode_amplification": found.decode_amplification,
        "slides_per_batch": found.slides_per_batch,
        "same_chunk_pairs": found.same_chunk_pairs,
        "share_per_pass": found.share_per_pass,
        "new_megapixels_per_second": found.new_megapixels_per_second,
    }


def _table(advice: Advice) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    headings = ["", "crops\nper\nchunk", "crops/s", "limit", "decoded/\ndelivered"]
    headings += ["slides\nin a\nbatch", "pairs\nof one\nchunk", "seen\nin a\npass"]
    headings += ["new\nMpx/s", "memory"]
    for heading in headings:  # in 80 columns none is cut; in fewer, words go on below
        justify: JustifyMethod = "left" if heading in ("", "limit") else "right"
        table.add_column(heading, justify=justify, overflow="fold")
    for found in advice.options:
        chosen = found is advice.chosen
        table.add_row(
            "→" if chosen else "",
            str(found.setting.crops_per_chunk),
            f"{found.crops_per_second:,.0f}",
            found.limit,
            f"{found.decode_amplification:.2f}",
            f"{found.slides_per_batch:.0f}",
            f"{found.same_chunk_pairs:.1%}",
            f"{found.share_per_pass:.2%}",
            f"{found.new_megapixels_per_second:,.0f}",
            f"{found.memory_bytes / _GIB:.1f} GiB",
            style="bold" if chosen else None,
        )
    return table


def _remedy(limit: str) -> str:
    return {
        "reading": "reading limits; give it more cores, or let chunks be used longer",
        "cropping": "cropping limits; give DALI more cores, or a GPU",
        "cores": "reading and cropping share the cores, and there are too few",
        "storage": "the disk or share with the slides limits; let chunks be used longer, or copy "
        "the slides to a faster one",
    }[limit]
