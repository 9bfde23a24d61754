"""Collects what a model says of tiles that come in any batches, slide after slide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.source.provenance import InfoColumn

Features = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SlideFeatures:
    """Tiles of one slide."""

    slide: int
    """Position in `Dataset.slides`."""
    features: Features
    """(n_tiles, K) float32."""
    rows: Rows
    """(n_tiles, columns of `InfoColumn`)."""

    @classmethod
    def joined(cls, parts: list[SlideFeatures]) -> SlideFeatures:
        """All tiles of some parts, in their order."""
        return cls(
            parts[0].slide,
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.rows for part in parts]),
        )


class Collector:
    """Keeps the tiles of slides that are not complete yet; of slides in order, that is one."""

    def __init__(self, tiles_per_slide: Mapping[int, int]) -> None:
        """Tiles that come, by slide."""
        self._wanted = dict(tiles_per_slide)
        self._parts: dict[int, list[SlideFeatures]] = {}
        self._unsaved: dict[int, list[SlideFeatures]] = {}

    def begin(self, part: SlideFeatures) -> None:
        """Tiles of an earlier call, beside those that come: before the first of its slide comes."""
        self._parts[part.slide] = [part]

    def add(self, features: Features, rows: Rows) -> Iterator[SlideFeatures]:
        """Take a batch, (n, K) and its `info`; the slides that it completes, tiles row by row."""
        slides = rows[:, InfoColumn.SLIDE]
        for slide in np.unique(slides).tolist():
            of_slide = slides == slide
            part = SlideFeatures(slide, features[of_slide], rows[of_slide])
            self._parts.setdefault(slide, []).append(part)
            self._wanted[slide] -= int(of_slide.sum())
            if self._wanted[slide]:
                self._unsaved.setdefault(slide, []).append(part)
                continue
            self._unsaved.pop(slide, None)
            whole = SlideFeatures.joined(self._parts.pop(slide))
            order = np.lexsort((whole.rows[:, InfoColumn.X], whole.rows[:, InfoColumn.Y]))
            yield SlideFeatures(slide, whole.features[order], whole.rows[order])

    def put_back(self, part: SlideFeatures) -> None:
        """Of what came from `unsaved`: it is to come again."""
        self._unsaved.setdefault(part.slide, []).append(part)

    def unsaved(self) -> list[SlideFeatures]:
        """What came since the last call, of slides that are not complete."""
        found = [SlideFeatures.joined(parts) for parts in self._unsaved.values()]
        self._unsaved = {}
        return found
