"""Loaders with code of their own, for workers to import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pydmed_dali import BigChunkLoader, Point, Visit


class Walk(BigChunkLoader):
    """Walks over a patient's slide: the corner follows from all visits and messages before."""

    def place_chunk(self, visit: Visit) -> tuple[Point, Any]:
        last = visit.last_origin
        path = [*(visit.state or []), [visit.number, *visit.messages]]
        draw = np.random.default_rng([visit.seed % 2**32, len(path), len(visit.messages)])
        origin = Point(int(draw.integers(last.x + 1)), int(draw.integers(last.y + 1)))
        for message in visit.messages:
            origin = Point(*message)
        # Some take long, so that workers finish in another order than they began.
        time.sleep(0.02 * (visit.seed % 2))
        return origin, path[-20:]


class Dies(Walk):
    """A `Walk` whose worker is killed once, in the middle of it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def place_chunk(self, visit: Visit) -> tuple[Point, Any]:
        if len(visit.state or []) == 3 and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().place_chunk(visit)


class Grid(BigChunkLoader):
    """Crops on a grid, as close as they need to be."""

    def place_crops(self, visit: Visit, origin: Point, count: int) -> ArrayLike:
        side = int(np.ceil(np.sqrt(count)))
        row, column = np.divmod(np.arange(count), side)
        most = visit.chunk_size.width - visit.crop_size.width
        return np.stack([row, column], axis=1) * (most // side)


class Wrong(BigChunkLoader):
    """Returns what it was given, or raises it."""

    def __init__(self, chunk: Any = None, crops: Any = None) -> None:
        self.chunk, self.crops = chunk, crops

    def place_chunk(self, visit: Visit) -> tuple[Point, Any]:
        if isinstance(self.chunk, type):
            raise self.chunk("mine")
        result: tuple[Point, Any] = (visit.planned, None) if self.chunk is None else self.chunk
        return result

    def place_crops(self, visit: Visit, origin: Point, count: int) -> ArrayLike:
        crops: ArrayLike = visit.draw_crops(origin, count) if self.crops is None else self.crops
        return crops


class Asks(BigChunkLoader):
    """Goes where most places have enough tissue, of 20 drawn, and says of how many as state."""

    def place_chunk(self, visit: Visit) -> tuple[Point, Any]:
        draw, last = np.random.default_rng(visit.seed), visit.last_origin
        drawn = [
            Point(int(draw.integers(last.x + 1)), int(draw.integers(last.y + 1))) for _ in range(20)
        ]
        best = max(drawn, key=visit.places)
        return best, visit.places(best)
