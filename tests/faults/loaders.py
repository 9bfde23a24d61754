"""Loaders that do harm in a worker. Apart from the tests, so that a worker imports little."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydmed_dali.errors import SlideReadError
from pydmed_dali.geometry import Point, Region
from pydmed_dali.slide.slide import Pixels, Slide
from pydmed_dali.slide.view import View
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.chunk_runner import ChunkRunner
from pydmed_dali.worker.messages import Loaded

SLIDE = "slide-2.tif"
"""The slide at which things go wrong."""


def misbehave(deed: str) -> None:
    """Do one bad thing; the names are the ids of the tests."""
    match deed:
        case "raise":
            raise RuntimeError("a defect")
        case "sys.exit":
            raise SystemExit(5)
        case "os._exit(0)":
            os._exit(0)
        case "hang":
            time.sleep(3600)
        case signal_name:
            os.kill(os.getpid(), getattr(signal, signal_name))


class Misbehaving(BigChunkLoader):
    """Does something bad at one place of a worker's life, once in all, or each time it comes there.

    `marks` is a folder that all workers share: who makes the mark in it is the one.
    """

    def __init__(self, marks: Path, deed: str, place: str, always: bool = False) -> None:
        self.marks, self.deed, self.place, self.always = marks, deed, place, always

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In a worker: go bad now, or lay a trap in the worker's own program."""
        self.__dict__.update(state)
        if os.getpid() == state["parent"]:
            return  # the parent tries the loader's pickle
        self._come_to("starting")
        program = sys.modules["__main__"]
        self._trap(program, "send", "publishing", lambda _, message: isinstance(message, Loaded))
        self._trap(program, "receive_all", "idle", lambda channel: not _has_mail(channel))
        self._trap(ChunkRunner, "close", "shutting down", lambda _: True)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "parent": os.getpid()}

    def open_slide(self, path: Path) -> Slide:
        if path.name == SLIDE:
            self._come_to("opening")
        return super().open_slide(path)

    def extract_bigchunk(
        self, slide: Slide, view: View, origin: Point, out: Pixels, parts: Sequence[Region]
    ) -> None:
        if slide.path.name == SLIDE:
            out[:] = 13  # half-written pixels must never be seen
            self._come_to("reading")
        super().extract_bigchunk(slide, view, origin, out, parts)

    def _come_to(self, place: str) -> None:
        if place != self.place:
            return
        try:
            (self.marks / "done").touch(exist_ok=self.always)
        except FileExistsError:
            return
        misbehave(self.deed)

    def _trap(self, owner: Any, name: str, place: str, applies: Callable[..., bool]) -> None:
        plain = getattr(owner, name)

        def trapped(*arguments: Any) -> Any:
            if applies(*arguments):
                self._come_to(place)
            return plain(*arguments)

        setattr(owner, name, trapped)


def _has_mail(channel: socket.socket) -> bool:
    """Whether a job is waiting: without one the worker is idle."""
    return bool(select.select([channel], [], [], 0)[0])


class EndsAlways(BigChunkLoader):
    """Kills the worker whatever it opens."""

    def open_slide(self, path: Path) -> Slide:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("not reached")


class EndsAtOnce(BigChunkLoader):
    """Ends the worker when it is unpickled: before it is ready."""

    def __reduce__(self) -> Any:
        return _end_if_worker, (os.getpid(),)


def _end_if_worker(parent: int) -> BigChunkLoader:
    if os.getpid() != parent:
        os._exit(9)
    return EndsAtOnce()


class ReadsFromPipe(BigChunkLoader):
    """The first read of one slide waits until somebody writes to a named pipe, and closes it."""

    def __init__(self, pipe: Path) -> None:
        self.pipe = pipe

    def extract_bigchunk(
        self, slide: Slide, view: View, origin: Point, out: Pixels, parts: Sequence[Region]
    ) -> None:
        done = self.pipe.with_suffix(".done")
        if slide.path.name == SLIDE and not done.exists():
            out[:] = 13
            self.pipe.read_bytes()
            done.touch()
        super().extract_bigchunk(slide, view, origin, out, parts)


class Forgiving(BigChunkLoader):
    """Delivers what it has, where a part cannot be read."""

    def extract_bigchunk(
        self, slide: Slide, view: View, origin: Point, out: Pixels, parts: Sequence[Region]
    ) -> None:
        out[:] = 255
        with suppress(SlideReadError):
            super().extract_bigchunk(slide, view, origin, out, parts)


class HasAHole(BigChunkLoader):
    """Reads of slide a only what lies left of pixel 64."""

    def extract_bigchunk(
        self, slide: Slide, view: View, origin: Point, out: Pixels, parts: Sequence[Region]
    ) -> None:
        if slide.path.stem == "a" and origin.x >= 64:
            raise OSError("a hole in the disk")
        super().extract_bigchunk(slide, view, origin, out, parts)


class EndsAtOpening(BigChunkLoader):
    """Ends its process at each opening of these slides."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def open_slide(self, path: Path) -> Slide:
        if path.stem in self.names:
            os._exit(3)
        return super().open_slide(path)
