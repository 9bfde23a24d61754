"""`pydmed-dali preview`: pictures of slides, with what a source would draw from them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console
from rich.text import Text

from pydmed_dali.dataset import Dataset, Patient, Record
from pydmed_dali.dataset.short_name import LONGEST, short_name
from pydmed_dali.errors import OptionError, PydmedError
from pydmed_dali.geometry import Size
from pydmed_dali.pool.annotation_files import find_annotations
from pydmed_dali.pool.mask_files import plan_tissue
from pydmed_dali.preview.picture import draw_picture
from pydmed_dali.preview.slide_preview import (
    PreviewRequest,
    SlideSample,
    first_visits,
    sample_slide,
)
from pydmed_dali.slide.cache import cache_folder
from pydmed_dali.slide.frame import check_frame
from pydmed_dali.text import paragraph, printable
from pydmed_dali.worker.annotation_plan import ReadingRules


@dataclass(frozen=True, slots=True)
class Preview:
    """What became of one slide."""

    path: Path
    picture: Path | None
    """The file that was written; None for a slide that cannot be read."""
    tissue: float | None
    """Part of the slide that is tissue; None where no tissue was asked for."""
    eligible: float | None
    """Part of the places where a crop can start that may be drawn."""
    problem: str | None
    """Why the slide cannot be read; None for a good one."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "path": str(self.path),
            "picture": None if self.picture is None else str(self.picture),
            "tissue": None if self.tissue is None else round(self.tissue, 4),
            "eligible": None if self.eligible is None else round(self.eligible, 4),
            "reason": self.problem,
        }


_CROPS, _SHOWN = 64, 8  # of each BigChunk
_PICTURE = ".png"


def preview_request(
    dataset: Dataset,
    min_tissue: float,
    masks: Path | None,
    tissue_values: str | None,
    frame: str,
    level: int | None,
    mpp: float | None,
    chunk_size: int,
    crop_size: int,
    chunks: int,
    seed: int,
    magnification: float | None = None,
    default_mpp: float | None = None,
    mpp_override: float | None = None,
    annotations: Path | None = None,
    rules: ReadingRules | None = None,
) -> PreviewRequest:
    """The command's options as those of a source; raises `OptionError` where it would."""
    asked = {"level": level, "mpp": mpp, "magnification": magnification}
    if crop_size > chunk_size:
        raise OptionError(
            f"crop_size={crop_size} does not fit in chunk_size={chunk_size}; raise the latter"
        )
    given = [f"{n}={v}" for n, v in asked.items() if v is not None]
    if len(given) > 1:
        raise OptionError(f"{' and '.join(given[:2])} were both given; choose one of them")
    return PreviewRequest(
        chunk=Size(chunk_size, chunk_size),
        crop=Size(crop_size, crop_size),
        level=level,
        mpp=mpp,
        seed=seed,
        tissue=plan_tissue(dataset, min_tissue or None, masks, tissue_values, check_frame(frame)),
        cache=cache_folder(None),
        chunks=chunks,
        crops=_CROPS,
        shown=_SHOWN,
        magnification=magnification,
        default_mpp=default_mpp,
        mpp_override=mpp_override,
        annotations={} if annotations is None else find_annotations(dataset, annotations),
        rules=replace(rules or ReadingRules(), frame=frame),
    )


def dataset_of(path: Path) -> Dataset:
    """The slides below a folder, or the one slide at `path`; each a patient of its own."""
    if os.path.isdir(path):
        return Dataset.from_folder(path)
    record = Record(path.absolute().parent, PurePosixPath(path.name))
    return Dataset((Patient(path.name, (record,)),))


def preview_slides(dataset: Dataset, wishes: PreviewRequest, out: Path) -> Iterator[Preview]:
    """Draw one slide after the other into `out`, as their places below the dataset's folder.

    Raises `OptionError` where `out` cannot be a folder; a bad slide is told in its `Preview`.
    """
    visits = first_visits(dataset, wishes.seed, wishes.chunks)
    for number, record in enumerate(dataset.slides):
        name = short_name(record.relative.name, LONGEST - len(_PICTURE))
        picture = out / record.relative.parent / f"{name}{_PICTURE}"
        try:
            picture.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"out={str(out)!r} cannot be a folder ({error})") from error
        try:
            slide = sample_slide(str(record.relative), record.path, visits[number], wishes)
        except PydmedError as error:
            yield Preview(record.path, None, None, None, str(error))
            continue
        except Exception as error:  # of a reader, at a file that is broken in a way of its own
            yield Preview(record.path, None, None, None, f"{record.path}: {error!r}")
            continue
        try:
            draw_picture(picture, slide, _subtitle(slide, wishes))
        except OSError as error:
            raise OptionError(
                f"{printable(picture)} cannot be written ({error.strerror}); give another folder"
            ) from error
        yield Preview(record.path, picture, slide.tissue, slide.eligible, None)


def show_preview(console: Console, preview: Preview) -> None:
    """Print a line for one slide, and one for what is remarkable about it."""
    console.print("[green]✓[/]" if preview.problem is None else "[red]✗[/]", end=" ")
    console.print(printable(preview.picture or preview.path), markup=False, soft_wrap=True)
    if preview.problem is not None:
        console.print(Text(f"  {paragraph(preview.problem)}", style="red"), soft_wrap=True)
    elif preview.tissue is not None:
        told = f"  {preview.tissue:.1%} tissue; {preview.eligible:.1%} of all places may be drawn"
        console.print(Text(told, style="dim"))


def _subtitle(slide: SlideSample, wishes: PreviewRequest) -> str:
    view = slide.view
    scale = "" if view.mpp is None else f" at {view.mpp[0]:.3g} µm"
    told = [f"{view.dimensions} pixels{scale}"]
    if slide.tissue is not None and wishes.tissue is not None:
        told += [
            f"{slide.tissue:.1%} tissue",
            f"{slide.eligible:.1%} of places have min_tissue={wishes.tissue.min_tissue:g}",
        ]
    told += [f"BigChunks of {wishes.chunk}", f"SmallChunks of {wishes.crop}", f"seed {wishes.seed}"]
    return "  ·  ".join(told)
