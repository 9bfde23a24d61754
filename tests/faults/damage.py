"""Damages slide files at chosen places: where a TIFF's header, directories and tiles lie."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

Span = tuple[int, int]
"""First byte, and the one behind the last."""

_HEAD = 64  # bytes at a tile's start: markers, tables and sizes of its codec
_HOLE = 65536


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Where the parts of a slide file lie. Spans of one part may overlap."""

    header: tuple[Span, ...]
    """Byte order, version, place of the first directory."""
    directories: tuple[Span, ...]
    """Tags of all directories: number, type, count, value or its place; and the next's place."""
    values: tuple[Span, ...]
    """Values outside of the directories: places and lengths of tiles, descriptions, tables."""
    tiles: tuple[Span, ...]
    """Compressed tiles, or strips."""


def find_anatomy(path: Path) -> Anatomy:
    """Take a sound TIFF apart."""
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with tifffile.TiffFile(path) as file:
        form, pages = file.tiff, list(file.pages)
        frames = [page for page in pages if isinstance(page, tifffile.TiffPage)]
        table = [
            form.tagnosize + len(page.tags) * form.tagsize + form.offsetsize for page in frames
        ]
        outside = [
            tag for page in frames for tag in page.tags if tag.valuebytecount > form.offsetsize
        ]
        return Anatomy(
            header=((0, 16 if file.is_bigtiff else 8),),
            directories=tuple(
                (page.offset, page.offset + size) for page, size in zip(frames, table, strict=True)
            ),
            values=tuple((t.valueoffset, t.valueoffset + t.valuebytecount) for t in outside),
            tiles=tuple(
                (start, start + length)
                for page in frames
                for start, length in zip(page.dataoffsets, page.databytecounts, strict=True)
                if length
            ),
        )


DAMAGES = ("header", "directories", "values", "tiles", "tile heads", "hole", "cut")


def damage(whole: bytes, anatomy: Anatomy, kind: str, random: np.random.Generator) -> bytes:
    """The file with some bytes changed in the parts that `kind` names, a hole of zeros, or cut."""
    data = bytearray(whole)
    match kind:
        case "header" | "directories" | "values":
            for _ in range(random.integers(1, 5)):
                _flip(data, _any_of(getattr(anatomy, kind), random), random)
        case "tiles" | "tile heads":
            share = random.choice((0.01, 0.1, 0.5))
            for start, stop in anatomy.tiles:
                if random.random() < share:
                    end = min(stop, start + _HEAD) if kind == "tile heads" else stop
                    _flip(data, (start, end), random)
        case "hole":
            start = int(random.integers(len(data)))
            stop = min(start + int(random.integers(1, _HOLE)), len(data))
            data[start:stop] = bytes(stop - start)
        case "cut":
            del data[int(random.integers(len(data))) :]
        case _:
            raise ValueError(kind)
    return bytes(data)


def _any_of(spans: Sequence[Span], random: np.random.Generator) -> Span:
    """A span, each byte of all as likely."""
    lengths = np.array([stop - start for start, stop in spans])
    return spans[random.choice(len(spans), p=lengths / lengths.sum())]


def _flip(data: bytearray, span: Span, random: np.random.Generator) -> None:
    place = int(random.integers(*span))
    if place < len(data):
        data[place] ^= int(random.integers(1, 256))
