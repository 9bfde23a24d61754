"""Loaders that do harm in a worker. Apart from the tests, so that a worker imports little."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from pydmed_dali.geometry import Point
from pydmed_dali.loader.big_chunk_loader import BigChunkLoader
from pydmed_dali.slide.protocol import Pixels, Slide
from pydmed_dali.slide.view import View


class Misbehaving(BigChunkLoader):
    """Does something bad at its first read of each slide named, or at every read."""

    def __init__(self, marks: Path, deed: str, slide: str, always: bool = False) -> None:
        self.marks, self.deed, self.slide, self.always = marks, deed, slide, always

    def extract_bigchunk(self, slide: Slide, view: View, origin: Point, out: Pixels) -> None:
        mark = self.marks / slide.path.name
        if slide.path.name == self.slide and (self.always or not mark.exists()):
            mark.touch()
            out[:] = 13  # half-written pixels must never be seen
            self._misbehave()
        super().extract_bigchunk(slide, view, origin, out)

    def _misbehave(self) -> None:
        match self.deed:
            case "raise":
                raise RuntimeError("a defect")
            case "sys.exit":
                raise SystemExit(5)
            case "os._exit":
                os._exit(0)
            case "hang":
                time.sleep(3600)
            case name:
                os.kill(os.getpid(), getattr(signal, name))


class EndsAlways(BigChunkLoader):
    """Kills the worker whatever it reads."""

    def extract_bigchunk(self, slide: Slide, view: View, origin: Point, out: Pixels) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class EndsAtOnce(BigChunkLoader):
    """Ends the worker when it is unpickled: before it is ready."""

    def __reduce__(self) -> Any:
        return _end_if_worker, (os.getpid(),)


def _end_if_worker(parent: int) -> BigChunkLoader:
    if os.getpid() != parent:
        os._exit(9)
    return EndsAtOnce()
