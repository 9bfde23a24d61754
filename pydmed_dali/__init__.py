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
    from pydmed_dali.dataset import Dataset, Patient, Record
    from pydmed_dali.errors import PydmedError
    from pydmed_dali.geometry import Point, Size
    from pydmed_dali.pool.report import Report
    from pydmed_dali.pool.statistics import Stats
    from pydmed_dali.pool.tissue_areas import measure_tissue
    from pydmed_dali.slide.pixel_format import PixelFormat
    from pydmed_dali.slide.slide import Slide, SlideFacts, Volume
    from pydmed_dali.slide.stain import MacenkoStain, ReinhardStain
    from pydmed_dali.slide.view import View
    from pydmed_dali.source.big_chunk_source import BigChunkSource
    from pydmed_dali.source.iterator import SmallChunkIterator
    from pydmed_dali.source.pipeline_definition import pipeline_def
    from pydmed_dali.source.provenance import CropInfo, InfoColumn
    from pydmed_dali.source.tile_source import TileSource
    from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
    from pydmed_dali.worker.nifti_loader import NiftiLoader
    from pydmed_dali.worker.stain_finder import measure_stain
    from pydmed_dali.worker.tiff_loader import TiffLoader
    from pydmed_dali.worker.visit import Visit

_HOMES = {
    "Annotation": "annotation.annotation",
    "Annotations": "annotation.annotation",
    "BigChunkLoader": "worker.big_chunk_loader",
    "BigChunkSource": "source.big_chunk_source",
    "CropInfo": "source.provenance",
    "Dataset": "dataset",
    "InfoColumn": "source.provenance",
    "MacenkoStain": "slide.stain",
    "NiftiLoader": "worker.nifti_loader",
    "Patient": "dataset",
    "PixelFormat": "slide.pixel_format",
    "Point": "geometry",
    "PydmedError": "errors",
    "Record": "dataset",
    "ReinhardStain": "slide.stain",
    "Report": "pool.report",
    "Size": "geometry",
    "Slide": "slide.slide",
    "SlideFacts": "slide.slide",
    "SmallChunkIterator": "source.iterator",
    "Stats": "pool.statistics",
    "TiffLoader": "worker.tiff_loader",
    "TileSource": "source.tile_source",
    "View": "slide.view",
    "Visit": "worker.visit",
    "Volume": "slide.slide",
    "classes_at": "annotation.mask",
    "measure_stain": "worker.stain_finder",
    "measure_tissue": "pool.tissue_areas",
    "pipeline_def": "source.pipeline_definition",
    "rasterize": "annotation.mask",
    "read_annotations": "annotation.reader",
    "require_classes": "annotation.annotation",
}

__all__ = [
    "Annotation",
    "Annotations",
    "BigChunkLoader",
    "BigChunkSource",
    "CropInfo",
    "Dataset",
    "InfoColumn",
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
    "SmallChunkIterator",
    "Stats",
    "TiffLoader",
    "TileSource",
    "View",
    "Visit",
    "Volume",
    "classes_at",
    "measure_stain",
    "measure_tissue",
    "pipeline_def",
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
