"""Which reader opens a slide: the fast one where it proves equal to OpenSlide, else OpenSlide."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from pydmed_dali.errors import SlideFormatError, SlideReadError
from pydmed_dali.geometry import Point
from pydmed_dali.slide import openslide_slide, tiled_slide
from pydmed_dali.slide.background import Background
from pydmed_dali.slide.cache import Cache, file_key
from pydmed_dali.slide.codec.jpeg import OddTileError
from pydmed_dali.slide.facts_json import VERSION, facts_from_json, facts_to_json
from pydmed_dali.slide.index.tiff import TiledLevel, UnsuitedError, index_tiles
from pydmed_dali.slide.index.tiff_content import check_shown
from pydmed_dali.slide.openslide_slide import OpenSlideSlide
from pydmed_dali.slide.slide import Slide
from pydmed_dali.slide.tiled_slide import TiledSlide

logger = logging.getLogger("pydmed_dali.slide")

READERS = f"{openslide_slide.READER}, {tiled_slide.READER}, facts {VERSION}"
"""Every reader's name and version, and that of what is found out of a file: they decide pixels and
places, so states keep them."""


def open_slide(path: Path, cache: Cache) -> Slide:
    """Open the slide at `path` with the reader that fits it.

    Tiled TIFF of a known kind (Aperio SVS, generic pyramids; JPEG or JPEG 2000 tiles) is read tile
    by tile, after some tiles of each level were compared with OpenSlide's pixels; what differs, and
    everything else, OpenSlide reads. `facts.reader` and `facts.reader_reason` say which and why.
    What was found equal once is known by the `cache`, and then opened in a tenth of the time.

    Raises `SlideNotFoundError` and `SlideFormatError` as `OpenSlideSlide` does, and the latter for
    a file that OpenSlide would show other than it is: of 16 bits, or of several channels.
    """
    key = file_key(path, "facts", READERS)
    known = cache.get(key)
    if known is not None:
        facts = facts_from_json(known)
        with suppress(UnsuitedError):  # another file, with the size and the time of the known one
            return TiledSlide(path, facts, index_tiles(path, facts))
    reference = _reference(path, cache)
    try:
        fast = _proven(reference)
    except UnsuitedError as reason:
        if isinstance(reason.__cause__, OddTileError):
            # OpenSlide refuses such tiles, but for some, of which it delivers other memory.
            reference.close()
            raise SlideFormatError(f"{path}: {reason}; convert the slide anew") from reason
        if isinstance(reason.__cause__, SlideReadError):
            # After one error OpenSlide refuses every other read of a slide that stays open.
            reference.close()
            reference = _reference(path, cache)
        reference.explain(str(reason))
        _keep_background(reference, cache)
        return reference
    except BaseException:
        reference.close()
        raise
    reference.close()
    cache.put(key, facts_to_json(fast.facts))
    return fast


def _opened(path: Path, cache: Cache) -> OpenSlideSlide:
    """The slide as OpenSlide opens it, with the background that was found when it was last."""
    known = cache.get(_background_key(path))
    if known is None:
        return OpenSlideSlide(path)
    colour, reason = json.loads(known)
    return OpenSlideSlide(path, Background(tuple(colour), reason))


def _keep_background(slide: OpenSlideSlide, cache: Cache) -> None:
    found = slide.background
    if found is not None:
        told = json.dumps([found.colour, found.reason])
        cache.put(_background_key(slide.path), told.encode())


def _background_key(path: Path) -> str | None:
    return file_key(path, "background", openslide_slide.READER, VERSION)


def _reference(path: Path, cache: Cache) -> OpenSlideSlide:
    """OpenSlide's reader of a file of which it shows what there is."""
    reference = _opened(path, cache)
    try:
        reference.remark(*check_shown(path, reference.facts))
    except BaseException:
        reference.close()
        raise
    return reference


def _proven(reference: OpenSlideSlide) -> TiledSlide:
    """The fast reader of the same file; raises `UnsuitedError` where it is not equal."""
    levels = index_tiles(reference.path, reference.facts)
    codings = ", ".join(dict.fromkeys(level.coding for level in levels))
    facts = replace(
        reference.facts, reader_reason=f"tiles of {codings}, found equal to OpenSlide's pixels"
    )
    fast = TiledSlide(reference.path, facts, levels)
    try:
        for level, tiles in enumerate(levels):
            probes = _probes(tiles, facts.level_downsamples[level])
            odd = [_compare(fast, reference, tiles, location, level) for location in probes]
            if all(odd):  # a single one is refused where it is read
                raise UnsuitedError(f"tiles of level {level}: {odd[0]}") from odd[0]
    except BaseException:
        fast.close()
        raise
    return fast


def _probes(tiles: TiledLevel, downsample: float) -> list[Point]:
    """Where to compare, in level-0 pixels: at the longest and the last tile, which end the widest
    range of contents and the file's data; at a fractional downsample, only where OpenSlide does not
    interpolate: at the origin.
    """
    if not downsample.is_integer():
        return [Point(0, 0)]
    numbers = dict.fromkeys((int(np.argmax(tiles.counts)), len(tiles.counts) - 1))
    places = [divmod(number, tiles.columns) for number in numbers]
    step = int(downsample)
    return [
        Point(column * tiles.tile.width * step, row * tiles.tile.height * step)
        for row, column in places
    ]


def _compare(
    fast: TiledSlide, reference: OpenSlideSlide, tiles: TiledLevel, location: Point, level: int
) -> OddTileError | None:
    """Raise `UnsuitedError` unless both readers deliver the same tile at `location` (level 0).

    Returns the error of a tile that is none of the level's, which no reader is to deliver.
    """
    shape = (tiles.tile.height, tiles.tile.width, 3)
    ours, theirs = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    try:
        fast.decode_into(ours, location, level)
        reference.read_into(theirs, location, level)
    except OddTileError as error:
        return error
    except Exception as error:  # of OpenSlide's or of a decoder's
        raise UnsuitedError(f"a tile that was tried cannot be read ({error})") from error
    if not np.array_equal(ours, theirs):
        logger.warning(
            "%s: a tile of level %d at (%d, %d) in level 0 decodes otherwise than OpenSlide reads "
            "it; the slide is read by OpenSlide, which is slower",
            reference.path,
            level,
            location.x,
            location.y,
        )
        raise UnsuitedError(f"a tile of level {level} decodes otherwise than OpenSlide reads it")
    return None
