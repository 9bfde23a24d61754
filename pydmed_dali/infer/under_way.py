"""Tiles of a slide that is not finished, on disk: whatever ends a run, they need not be run again.

A log that is only appended to: the slide's identity, and frames of tiles, each with its size and a
checksum. What ended a run may have cut the last one; it counts as not written.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from pydmed_dali.dali.info import Info
from pydmed_dali.infer.collector import SlideFeatures
from pydmed_dali.slide.file_identity import file_identity

logger = logging.getLogger("pydmed_dali.infer")

_HEAD = struct.Struct("<8sQQI")  # what it is, tiles, numbers of each, checksum
_MARK = b"pydmed-1"


class UnderWay:
    """The log of one slide."""

    def __init__(self, file: Path, slide: Path) -> None:
        self._file, self._slide = file, slide
        self._identity = b""

    def append(self, part: SlideFeatures) -> None:
        """Add tiles. A disk that is full is told in the log: finished slides are what counts."""
        if not self._identity:
            self._identity = identity_of(self._slide)
        body = part.rows.tobytes() + part.features.tobytes()
        head = _HEAD.pack(_MARK, *part.features.shape, zlib.crc32(body))
        try:
            with self._file.open("ab") as file:
                file.write((b"" if file.tell() else self._identity) + head + body)
        except OSError as error:
            logger.warning("%s: tiles under way are not kept (%s)", self._file, error)

    def load(self, slide: int) -> SlideFeatures | None:
        """The tiles, each once, and cut the log to them; None where there are none of this file."""
        try:
            content = self._file.read_bytes()
        except OSError:
            return None
        self._identity = identity_of(self._slide)
        if not content.startswith(self._identity):
            content = b""
        parts: list[SlideFeatures] = []
        good = len(self._identity)
        for part, end in _frames(slide, content, good):
            if parts and part.features.shape[1] != parts[0].features.shape[1]:
                break
            parts.append(part)
            good = end
        if not parts:
            self.remove()
            return None
        os.truncate(self._file, good)
        found = SlideFeatures.joined(parts)
        _, first = np.unique(found.rows[:, [Info.Y, Info.X]], axis=0, return_index=True)
        return SlideFeatures(slide, found.features[first], found.rows[first])

    def remove(self) -> None:
        """Forget the tiles: the slide is finished."""
        with suppress(OSError):
            self._file.unlink()


def identity_of(slide: Path) -> bytes:
    """A line that tells the slide's file from others, wherever it lies."""
    found = file_identity(slide)
    known = None if found is None else (found.size, found.mtime_ns, found.sample.hex())
    return f"{known}\n".encode()


def _frames(slide: int, content: bytes, at: int) -> Iterator[tuple[SlideFeatures, int]]:
    """(tiles, where they end) of each frame from a place on, as far as they are whole."""
    memory = memoryview(content)
    while len(content) - at >= _HEAD.size:
        mark, tiles, width, checksum = _HEAD.unpack_from(content, at)
        begin = at + _HEAD.size
        middle = begin + tiles * len(Info) * 8
        at = middle + tiles * width * 4
        if mark != _MARK or at > len(content) or zlib.crc32(memory[begin:at]) != checksum:
            return
        rows = np.frombuffer(memory[begin:middle], np.int64).reshape(tiles, len(Info)).copy()
        features = np.frombuffer(memory[middle:at], np.float32).reshape(tiles, width)
        rows[:, Info.SLIDE] = slide
        yield SlideFeatures(slide, features, rows), at
