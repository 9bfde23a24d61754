"""Patients and the slide files of each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pydmed_dali.dataset.spelling import composed
from pydmed_dali.errors import DatasetError

Label = str | int
"""What a classifier shall learn of a patient: a name, or a number that reaches torch as it is."""

LARGEST_LABEL = 2**63 - 1
"""A label travels as an int64."""


@dataclass(frozen=True)
class TissueArea:
    """How much tissue a slide has."""

    pixels: float
    """Its area in level-0 pixels; 0 where there is none, or the slide cannot be read."""
    mpp: tuple[float, float] | None
    """Micrometres per level-0 pixel (x, y), None where the file does not tell."""


@dataclass(frozen=True)
class Record:
    """One slide file of a patient."""

    root: Path
    """The folder that the dataset was made from; kept absolute."""
    relative: PurePosixPath
    """The file's path below `root`: the same on every machine that mounts the folder."""
    infos: Mapping[str, object] = field(default_factory=dict, hash=False)
    """Anything else known of the slide; it comes back from `BigChunkSource.describe`."""
    tissue: TissueArea | None = None
    """How much tissue it has; None as long as `measure_tissue` did not find out."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", absolute(self.root))
        object.__setattr__(self, "relative", PurePosixPath(self.relative))
        object.__setattr__(self, "infos", dict(self.infos))

    @property
    def path(self) -> Path:
        """The file's absolute path, right from any working directory."""
        return self.root / self.relative


@dataclass(frozen=True)
class Patient:
    """The unit of sampling and of splitting: a name, its slides, and one label."""

    id: str
    """A name of its own in the dataset; by default the slide's path below the folder. Kept in
    Unicode's normal form C, as is a label that is a name."""
    records: tuple[Record, ...]
    """The patient's slides, at least one."""
    label: Label | None = None
    """The class, or None in a dataset without labels."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", tuple(self.records))
        object.__setattr__(self, "id", composed(self.id))
        object.__setattr__(self, "label", composed_label(self.label))
        if not self.records:
            raise DatasetError(f"patient {self.id!r} has no slide; give it at least one Record")
        if not isinstance(self.label, str | int | None):
            raise DatasetError(
                f"patient {self.id!r} has the label {self.label!r}; a label is a str or an int"
            )


def composed_label(label: Label | None) -> Label | None:
    """A label that is a name in Unicode's normal form C; any other as it is."""
    return composed(label) if isinstance(label, str) else label


def absolute(folder: str | os.PathLike[str]) -> Path:
    """The folder as it was named, from the root; links are resolved only to get rid of `..`."""
    path = Path(folder).absolute()
    return path.resolve() if ".." in path.parts else path
