"""Collects what a model says of tiles that come in any batches, slide after slide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.dali.info import Info

Features = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SlideFeatures:
    """All tiles of one slide, in the order in which they came."""

    slide: int
    """Position in `Dataset.slides`."""
    features: Features
    """(n_tiles, K) float32."""
    rows: Rows
    """(n_tiles, columns of `Info`)."""


class Collector:
    """Keeps the tiles of slides that are not complete yet; of slides in order, that is one."""

    def __init__(self, tiles_per_slide: Mapping[int, int]) -> None:
        self._wanted = dict(tiles_per_slide)
        self._parts: dict[int, list[tuple[Features, Rows]]] = {}

    def add(self, features: Features, rows: Rows) -> Iterator[SlideFeatures]:
        """Take a batch, (n, K) and its `info`; the slides that it completes."""
        slides = rows[:, Info.SLIDE]
        for slide in np.unique(slides).tolist():
            of_slide = slides == slide
            self._parts.setdefault(slide, []).append((features[of_slide], rows[of_slide]))
            self._wanted[slide] -= int(of_slide.sum())
            if not self._wanted[slide]:
                parts = self._parts.pop(slide)
                yield SlideFeatures(
                    slide,
                    np.concatenate([part for part, _ in parts]),
                    np.concatenate([part for _, part in parts]),
                )
