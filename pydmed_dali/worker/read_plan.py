"""What the tasks of a pool have in common: a plan for loading chunks, or for surveying slides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydmed_dali.plan.depth import Depth
from pydmed_dali.plan.placement import Placer
from pydmed_dali.ring.layout import Layout
from pydmed_dali.slide.mask_image import MaskFile
from pydmed_dali.slide.scale import Scale
from pydmed_dali.worker.annotation_plan import AnnotationPlan
from pydmed_dali.worker.stain_finder import StainPlan
from pydmed_dali.worker.tile_filter import TilesPlan
from pydmed_dali.worker.tissue_places import TissuePlan


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What every chunk of a source has in common."""

    layout: Layout
    """The arena's shape."""
    placer: Placer
    """Where chunks and crops lie."""
    scale: Scale
    """The resolution to read."""
    tissue: TissuePlan | None
    """How much tissue crops must have; None draws from the whole slide."""
    cache: Path | None
    """The folder where what is found out of slides is kept; None keeps nothing."""
    annotated: AnnotationPlan | None = None
    """Annotations, for masks and for crops drawn by class; None for neither."""
    stain: StainPlan | None = None
    """What to find out of the slides' stain; None asks for nothing."""
    depth: Depth | None = None
    """Slices of chunks and crops, of volumes; None for slides."""


@dataclass(frozen=True, slots=True)
class SurveyPlan:
    """What a survey finds out of each slide; nothing is loaded."""

    scale: Scale
    """The resolution of the view that is surveyed."""
    cache: Path | None
    """The folder where what is found out of slides is kept; None keeps nothing."""
    masks: Mapping[Path, MaskFile] | None = None
    """The user's own tissue masks, by the slide's path; None where the tissue is not asked for."""
    tiles: TilesPlan | None = None
    """The tiles that are wanted; None where they are not asked for."""
