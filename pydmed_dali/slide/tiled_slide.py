"""The fast reader: decodes tiles of JPEG and JPEG 2000 itself, equal to OpenSlide to the bit."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from pydmed_dali.errors import SlideReadError
from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.slide.jpeg_tiles import DECODER, JpegTiles
from pydmed_dali.slide.openslide_slide import OpenSlideSlide
from pydmed_dali.slide.protocol import Pixels, SlideFacts
from pydmed_dali.slide.tiff_index import TiledLevel

READER = f"tifffile {tifffile.__version__} + {DECODER} + imagecodecs {imagecodecs.__version__}"
"""The reader's name and its libraries' versions: they decide pixels, so states keep them."""

_LARGEST_GAP = 1 << 16  # bytes between two tiles that are read through rather than skipped
_PIECE = 1 << 20  # bytes: of a longer piece the kernel fetches only the beginning
_LINE = 32  # bytes; see `scratch`
_CHANNELS = 3


Lines = NDArray[np.uint8]
"""An image, (height, width * 3) uint8: the channels of a row's pixels one after another."""


class _Run(NamedTuple):
    """Neighbouring tiles of one row."""

    offsets: list[int]
    counts: list[int]
    begin: int
    """Where the first of them begins in the file."""
    end: int
    """Where the last of them ends."""

    @classmethod
    def of(cls, tiles: TiledLevel, first: int, length: int) -> _Run:
        offsets = tiles.offsets[first : first + length].tolist()
        counts = tiles.counts[first : first + length].tolist()
        end = max(offset + count for offset, count in zip(offsets, counts, strict=True))
        return cls(offsets, counts, min(offsets), end)

    @property
    def is_dense(self) -> bool:
        """Whether they lie together, so that reading what lies between costs nothing."""
        return self.end - self.begin <= sum(self.counts) + _LARGEST_GAP


class TiledSlide:
    """A slide whose tiles are taken from the file directly; implements the `Slide` protocol.

    Every level delivers the file's own pixels: also where its downsample is no whole number, where
    OpenSlide shifts the level by a part of a pixel and interpolates (what it reads from the level's
    origin on, it does not shift: that is what this reader is equal to).

    A tile that cannot be decoded is left to OpenSlide, and is an error where that cannot either.
    """

    def __init__(self, path: Path, facts: SlideFacts, levels: tuple[TiledLevel, ...]) -> None:
        self._path = path
        self._facts = replace(facts, reader=READER, shifted_levels=frozenset())
        self._levels = levels
        self._decoders = [_decoder(level) for level in levels]
        self._scratches: dict[Size, Pixels] = {}
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        # What is needed is announced: the kernel shall not guess, and read what nobody wants.
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    @property
    def path(self) -> Path:
        """The file that was opened."""
        return self._path

    @property
    def facts(self) -> SlideFacts:
        """What the file says of itself, as OpenSlide tells it."""
        return self._facts

    def announce(self, regions: Sequence[Region], level: int) -> None:
        """See `ReadsAhead.announce`: have the kernel fetch the tiles, in as few pieces as sensible.

        A slow disk serves some hundred requests a second, whatever their length: up to 64 KiB that
        nobody asked for are read rather than asked around.
        """
        tiles = self._levels[level]
        wanted = np.zeros((tiles.rows, tiles.columns), np.bool_)
        for region in regions:
            inside = _cut(self._in_level(region.location, level), region.size, tiles.dimensions)
            if inside.size.area:
                wanted[_touched(inside, tiles.tile)] = True
        numbers = np.flatnonzero(wanted)
        if not len(numbers):
            return
        order = np.argsort(tiles.offsets[numbers])
        begins = tiles.offsets[numbers][order]
        ends = np.maximum.accumulate(begins + tiles.counts[numbers][order])
        gaps = np.flatnonzero(begins[1:] - ends[:-1] > _LARGEST_GAP)
        firsts, lasts = np.concatenate(([0], gaps + 1)), np.concatenate((gaps, [-1]))
        for begin, end in zip(begins[firsts].tolist(), ends[lasts].tolist(), strict=True):
            for start in range(begin, end, _PIECE):
                length = min(_PIECE, end - start)
                os.posix_fadvise(self._descriptor, start, length, os.POSIX_FADV_WILLNEED)

    def read_into(self, out: Pixels, location: Point, level: int) -> None:
        """See `Slide.read_into`."""
        try:
            self.decode_into(out, location, level)
        except Exception as error:  # the decoders raise whatever a damaged tile leads them to
            self._leave_to_openslide(out, location, level, error)

    def decode_into(self, out: Pixels, location: Point, level: int) -> None:
        """The same without OpenSlide's help: raises whatever the decoder does."""
        tiles = self._levels[level]
        place = self._in_level(location, level)
        inside = _cut(place, Size(out.shape[1], out.shape[0]), tiles.dimensions)
        within = Region(_less(inside.location, place), inside.size)
        _fill_around(out, within, self._facts.background)
        if not inside.size.area:
            return
        target = out[within.slices]
        self._read_tiles(level, inside, target)

    def close(self) -> None:
        """Release the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _in_level(self, location: Point, level: int) -> Point:
        """A level-0 pixel's place in a level."""
        downsample = self._facts.level_downsamples[level]
        return Point(round(location.x / downsample), round(location.y / downsample))

    def _read_tiles(self, level: int, region: Region, out: Pixels) -> None:
        """Fill `out` with `region` (the level's pixels), which lies inside the level."""
        tiles, decode = self._levels[level], self._decoders[level]
        x, y, tile = region.location.x, region.location.y, tiles.tile
        rows, columns = _touched(region, tile)
        first, count = columns.start, columns.stop - columns.start
        runs = [
            _Run.of(tiles, row * tiles.columns + first, count)
            for row in range(rows.start, rows.stop)
        ]
        for run in runs:
            self._announce(run)
        lines, pixels = out.reshape(out.shape[0], -1, copy=False), self._scratch(tile)
        decoded = pixels.reshape(tile.height, -1)
        for row, run in enumerate(runs, rows.start):
            for column, data in enumerate(self._fetch(run), first):
                decode(data, pixels)
                _place(decoded, Point(column * tile.width - x, row * tile.height - y), lines)

    def _announce(self, run: _Run) -> None:
        """Have the kernel fetch a run of tiles: one call a row instead of a wait for each tile."""
        if run.is_dense:
            length = run.end - run.begin
            os.posix_fadvise(self._descriptor, run.begin, length, os.POSIX_FADV_WILLNEED)

    def _fetch(self, run: _Run) -> list[bytes]:
        """The coded bytes of a run's tiles: in one piece where they lie together."""
        places = zip(run.offsets, run.counts, strict=True)
        if not run.is_dense:
            return [self._pread(count, offset) for offset, count in places]
        data = self._pread(run.end - run.begin, run.begin)
        return [data[offset - run.begin : offset - run.begin + count] for offset, count in places]

    def _pread(self, count: int, offset: int) -> bytes:
        pieces = []
        while count:
            piece = os.pread(self._descriptor, count, offset)
            if not piece:
                raise OSError(f"the file ends {count} bytes before the end of a tile")
            pieces.append(piece)
            count, offset = count - len(piece), offset + len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _scratch(self, tile: Size) -> Pixels:
        """Memory for one decoded tile, which the next one is decoded into again."""
        if tile not in self._scratches:
            self._scratches[tile] = scratch(tile)
        return self._scratches[tile]

    def _leave_to_openslide(
        self, out: Pixels, location: Point, level: int, error: Exception
    ) -> None:
        """Read by OpenSlide what this reader could not, if the two agree on which pixels these are.

        Raises `SlideReadError` if they do not, or if OpenSlide cannot read them either.
        """
        if not self._facts.level_downsamples[level].is_integer():
            raise SlideReadError(
                f"{self._path}: a tile of level {level} cannot be decoded, in "
                f"{out.shape[1]}x{out.shape[0]} pixels at ({location.x}, {location.y}) in level 0 "
                f"({error})"
            ) from error
        reference = OpenSlideSlide(self._path)
        try:
            reference.read_into(out, location, level)
        finally:
            reference.close()


def _decoder(level: TiledLevel) -> Callable[[bytes, Pixels], object]:
    """What decodes a tile of the level into memory of the tile's size."""
    if level.jpeg_space is not None:
        return JpegTiles(level.jpeg_tables, level.jpeg_space).decode
    return lambda data, out: imagecodecs.jpeg2k_decode(data, out=out)


def _cut(place: Point, size: Size, dimensions: Size) -> Region:
    """What of a region of `size` at `place` lies inside `dimensions`; of no area if nothing."""
    left, top = max(place.x, 0), max(place.y, 0)
    right = min(place.x + size.width, dimensions.width)
    bottom = min(place.y + size.height, dimensions.height)
    return Region(Point(left, top), Size(max(right - left, 0), max(bottom - top, 0)))


def _touched(region: Region, tile: Size) -> tuple[slice, slice]:
    """Rows and columns of the tiles that a region inside the level touches."""
    rows, columns = region.slices
    return (
        slice(rows.start // tile.height, (rows.stop - 1) // tile.height + 1),
        slice(columns.start // tile.width, (columns.stop - 1) // tile.width + 1),
    )


def _fill_around(out: Pixels, inside: Region, background: tuple[int, int, int]) -> None:
    """Fill what of `out` lies outside of `inside` (pixels of `out`); all, where that has no area.

    Only that: numpy takes as long to fill a chunk with a colour as the decoder for its tiles.
    """
    if not inside.size.area:
        out[:] = background
        return
    rows, columns = inside.slices
    out[: rows.start] = background
    out[rows.stop :] = background
    out[rows, : columns.start] = background
    out[rows, columns.stop :] = background


def _less(point: Point, other: Point) -> Point:
    return Point(point.x - other.x, point.y - other.y)


def _place(tile: Lines, corner: Point, lines: Lines) -> None:
    """Copy a tile to `corner` of an image, in pixels, cut to it; `corner` may lie outside.

    Rows are copied as one element each, which numpy does a quarter faster than bytes.
    """
    (height, width), left, top = tile.shape, corner.x * _CHANNELS, corner.y
    target = lines[max(top, 0) : top + height, max(left, 0) : left + width]
    if target.shape != tile.shape:
        rows, length = target.shape
        tile = tile[max(-top, 0) :, max(-left, 0) :][:rows, :length]
    whole_row = f"V{target.shape[1]}"
    np.copyto(target.view(whole_row), tile.view(whole_row))


def scratch(tile: Size) -> Pixels:
    """Memory for one decoded tile, half a line off a border of lines.

    Where rows begin on such borders, libjpeg-turbo converts colours with stores that go around the
    caches, so that copying the tile to its place must fetch it from memory: docs/decisions/0007.
    """
    size = tile.area * 3
    whole = np.empty(size + 2 * _LINE, np.uint8)
    start = -whole.ctypes.data % _LINE + _LINE // 2
    return whole[start : start + size].reshape(tile.height, tile.width, 3)
