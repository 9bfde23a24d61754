"""Loaders that leak. Apart from the tests, so that a worker imports little."""

from __future__ import annotations

from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path

from pydmed_dali.geometry import Point, Region
from pydmed_dali.slide.slide import Pixels, Slide
from pydmed_dali.slide.view import View
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader

_kept: list[Pixels | BufferedReader] = []


class KeepsChunks(BigChunkLoader):
    """Keeps a copy of every chunk."""

    def extract_bigchunk(
        self, slide: Slide, view: View, origin: Point, out: Pixels, parts: Sequence[Region]
    ) -> None:
        """Read as usual, and keep it."""
        super().extract_bigchunk(slide, view, origin, out, parts)
        _kept.append(out.copy())


class KeepsFiles(BigChunkLoader):
    """Opens every file once more than it closes it."""

    def open_slide(self, path: Path) -> Slide:
        """Open as usual, and once more."""
        _kept.append(path.open("rb"))
        return super().open_slide(path)
