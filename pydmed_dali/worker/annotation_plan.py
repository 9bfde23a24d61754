"""What a source wants of annotations, as workers are told it: knows no geometry, imports little."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydmed_dali.annotation.defaults import EXCLUSIONS, MOST_BYTES

if TYPE_CHECKING:
    from pydmed_dali.dataset import Dataset

REST = "rest"
"""What crops are called whose centre lies in none of the classes."""

_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """How annotation files are read."""

    exclusions: tuple[str, ...] = EXCLUSIONS
    """The classes whose regions are cut out of all others."""
    max_bytes: int = MOST_BYTES
    """The largest file that is read."""
    frame: str = "auto"
    """Whose corner coordinates count from: one of `FRAMES`. It decides nothing of the content."""

    @property
    def identity(self) -> str:
        """What decides the content of a file, alike for equal rules."""
        return ", ".join(sorted(name.strip().casefold() for name in self.exclusions))


@dataclass(frozen=True, slots=True)
class AnnotationFile:
    """What is known of one annotation file before any slide is opened."""

    path: Path
    digest: str
    """Of its contents: a file that is changed while a run goes on is noticed."""
    regions: Mapping[str, int]
    """How many regions it has of each class."""
    excluded: Mapping[str, int]
    """How many annotations it has of each class that is cut out of the others."""
    warnings: tuple[str, ...] = ()
    """What is remarkable about it."""
    frame: str = "slide"
    """As `Annotations.frame`."""


@dataclass(frozen=True, slots=True)
class AnnotationPlan:
    """What a source makes of annotations; workers get it too."""

    files: Mapping[Path, AnnotationFile]
    """By the slide's path; slides without a file are left out."""
    classes: tuple[str, ...]
    """The classes 1, 2, ...; 0 is the rest."""
    shares: tuple[float, ...] = ()
    """Of the crops, by class number from 0, the rest, on; empty where all places are drawn from."""
    rules: ReadingRules = field(default_factory=ReadingRules)
    """How the files are read."""

    @property
    def identity(self) -> str:
        """What a saved run and its resumption must have in common, in words."""
        digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for file in sorted(found.digest for found in self.files.values()):
            digest.update(file.encode())
        told = [
            f"{name} {self.shares[number]:g}" if self.shares else name
            for number, name in enumerate(self.classes, 1)
        ]
        without = self.rules.identity or "nothing"
        files = f"{len(self.files)} files {digest.hexdigest()}"
        frame = "" if self.rules.frame == "auto" else f"; frame {self.rules.frame}"
        return f"{', '.join(told)}; {files}; without {without}{frame}"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the numbers 0, 1, ..."""
        return (REST, *self.classes)

    def name_of(self, number: int) -> str | None:
        """The name of a class number; None for one below 0."""
        return None if number < 0 else self.names[number]

    def only(self, dataset: Dataset) -> AnnotationPlan:
        """The plan for tiles of these slides: of classes, those that some of them have."""
        paths = {record.path for record in dataset.slides}
        files = {slide: file for slide, file in self.files.items() if slide in paths}
        present = [
            name for name in self.classes if any(name in file.regions for file in files.values())
        ]
        return replace(self, files=files, classes=tuple(present), shares=())

    def slides_with(self, number: int, dataset: Dataset) -> list[int]:
        """Positions of the slides that can have a class, as far as their files tell."""
        if number == 0:
            return list(range(len(dataset.slides)))
        name = self.classes[number - 1]
        return [
            position
            for position, record in enumerate(dataset.slides)
            if record.path in self.files and name in self.files[record.path].regions
        ]
