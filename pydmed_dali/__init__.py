"""Train on gigapixel slides straight from the files: resident BigChunks, cropped inside DALI.

The public names are imported when they are first used, so that a worker process, which imports this
package too, loads neither DALI nor torch. A page that a docstring names as docs/NAME.md is shown by
`pydmed-dali docs NAME`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydmed_dali.annotation.annotation import Annotation, Annotations, require_classes
    from pydmed_dali.annotation.mask import classes_at, rasterize
    from pydmed_dali.annotation.reader import read_annotations
    from pydmed_dali.dali.info import Info, SmallChunk
    from pydmed_dali.dali.iterator import SmallChunkIterator
    from pydmed_dali.dali.pipeline import pipeline_def
    from pydmed_dali.dali.source import BigChunkSource
    from pydmed_dali.dali.tile_source import TileSource
    from pydmed_dali.dataset import Dataset, Patient, Record
    from pydmed_dali.errors import PydmedError
    from pydmed_dali.geometry import Point, Size
    from pydmed_dali.loader.big_chunk_loader import BigChunkLoader
    from pydmed_dali.loader.nifti_loader import NiftiLoader
    from pydmed_dali.loader.prepare import prepare
    from pydmed_dali.loader.report import Report
    from pydmed_dali.loader.stain import measure_stain
    from pydmed_dali.loader.statistics import Stats
    from pydmed_dali.loader.tiff_loader import TiffLoader
    from pydmed_dali.loader.visit import Visit
    from pydmed_dali.ring.pixel_format import PixelFormat
    from pydmed_dali.slide.protocol import Slide, SlideFacts, Volume
    from pydmed_dali.slide.stain import MacenkoStain, ReinhardStain
    from pydmed_dali.slide.view import View

_HOMES = {
    "Annotation": "annotation.annotation",
    "Annotations": "annotation.annotation",
    "BigChunkLoader": "loader.big_chunk_loader",
    "BigChunkSource": "dali.source",
    "Dataset": "dataset",
    "Info": "dali.info",
    "NiftiLoader": "loader.nifti_loader",
    "MacenkoStain": "slide.stain",
    "Patient": "dataset",
    "PixelFormat": "ring.pixel_format",
    "Point": "geometry",
    "PydmedError": "errors",
    "Record": "dataset",
    "ReinhardStain": "slide.stain",
    "Report": "loader.report",
    "Size": "geometry",
    "Slide": "slide.protocol",
    "SlideFacts": "slide.protocol",
    "SmallChunk": "dali.info",
    "SmallChunkIterator": "dali.iterator",
    "Stats": "loader.statistics",
    "TiffLoader": "loader.tiff_loader",
    "TileSource": "dali.tile_source",
    "Volume": "slide.protocol",
    "View": "slide.view",
    "Visit": "loader.visit",
    "classes_at": "annotation.mask",
    "measure_stain": "loader.stain",
    "pipeline_def": "dali.pipeline",
    "prepare": "loader.prepare",
    "rasterize": "annotation.mask",
    "read_annotations": "annotation.reader",
    "require_classes": "annotation.annotation",
}

__all__ = [
    "Annotation",
    "Annotations",
    "BigChunkLoader",
    "BigChunkSource",
    "Dataset",
    "Info",
    "MacenkoStain",
    "NiftiLoader",
    "Patient",
    "PixelFormat",
    "Point",
    "PydmedError",
    "Record",
    "ReinhardStain",
    "Report",
    "Size",
    "Slide",
    "SlideFacts",
    "SmallChunk",
    "SmallChunkIterator",
    "Stats",
    "TiffLoader",
    "TileSource",
    "View",
    "Visit",
    "Volume",
    "classes_at",
    "measure_stain",
    "pipeline_def",
    "prepare",
    "rasterize",
    "read_annotations",
    "require_classes",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
