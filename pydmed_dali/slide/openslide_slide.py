"""The reader that opens everything: OpenSlide, the reference that others are compared with."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread, current_thread, main_thread
from typing import Any

import numpy as np
import openslide

from pydmed_dali.errors import SlideFormatError, SlideReadError
from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.slide.background import Background, seen_background, told_background
from pydmed_dali.slide.file_identity import check_regular_file
from pydmed_dali.slide.index.tiff_content import TiffContent
from pydmed_dali.slide.limits import scanned_mpp
from pydmed_dali.slide.scanned_bounds import read_bounds
from pydmed_dali.slide.slide import WHITE, Pixels, SlideFacts

_ROWS = 1024  # rows read at once: OpenSlide hands out RGBA, a third more than the slot holds
_CACHE_BYTES = 32 * 2**20  # for tiles on the seam of two bands; a chunk is read once, so no more
_UNSEEN = "white, as the file tells none and its coarsest level cannot be read"

READER = f"openslide {openslide.__library_version__}"
"""The reader's name and the version of its library: it decides pixels, so states keep it."""


class OpenSlideSlide:
    """A slide read through openslide-python; implements the `Slide` protocol.

    Where a level's downsample is no integer, OpenSlide interpolates between pixels, because a
    level-0 location falls between two of that level's pixels: such reads are equal to OpenSlide's
    own, but not to the file's pixels.

    Raises `SlideNotFoundError` when the file is missing, `SlideFormatError` when it is no regular
    file, OpenSlide cannot open it, or it claims sizes that no slide has.
    """

    def __init__(self, path: Path, background: Background | None = None) -> None:
        """`background` is what an earlier look at the same file found; None looks."""
        self._path = path
        check_regular_file(path)
        self._slide = _open(path)
        try:
            self._facts = _facts(self._slide)
            background = background or told_background(self._slide, path) or self._look()
            self._facts = replace(
                self._facts, background=background.colour, background_reason=background.reason
            )
        except Exception as error:
            self._slide.close()
            raise SlideFormatError(f"{path}: its properties cannot be used ({error})") from error
        self._is_open = True

    @property
    def path(self) -> Path:
        """The file that was opened."""
        return self._path

    @property
    def facts(self) -> SlideFacts:
        """What the file says of itself."""
        return self._facts

    @property
    def background(self) -> Background | None:
        """What was found of the background, for the next time; None where it could not be seen."""
        facts = self._facts
        if facts.background_reason == _UNSEEN:
            return None
        return Background(facts.background, facts.background_reason)

    def remark(self, *remarks: str) -> None:
        """Add to the remarks in `facts`."""
        self._facts = replace(self._facts, remarks=(*self._facts.remarks, *remarks))

    def explain(self, reason: str) -> None:
        """Say in `facts` why no other reader was taken."""
        self._facts = replace(self._facts, reader_reason=reason)

    def read_into(self, out: Pixels, location: Point, level: int) -> None:
        """See `Slide.read_into`."""
        height, width = out.shape[:2]
        downsample = self._facts.level_downsamples[level]
        # Bands only where they start on whole level-0 pixels: else each would be shifted by itself.
        rows = height if level in self._facts.shifted_levels else _ROWS
        for top in range(0, height, rows):
            band = out[top : top + rows]
            y = location.y + round(top * downsample)
            try:
                image = self._slide.read_region((location.x, y), level, (width, band.shape[0]))
            except (openslide.OpenSlideError, OSError, ValueError) as error:
                raise SlideReadError(
                    f"{self._path}: OpenSlide cannot read {width}x{band.shape[0]} pixels of level "
                    f"{level} at ({location.x}, {y}) in level 0 ({error})"
                ) from error
            _flatten(np.asarray(image), self._facts.background, band)

    def close(self) -> None:
        """Release the file."""
        if self._is_open:
            self._is_open = False
            _without_interruption(self._slide.close)

    def _look(self) -> Background:
        """The background that the pixels show; after a failure the slide is opened anew, because
        OpenSlide then refuses every other read of it.
        """
        try:
            return seen_background(self._slide)
        except (openslide.OpenSlideError, OSError, ValueError):
            self._slide.close()
            self._slide = _open(self._path)
            return Background(WHITE, _UNSEEN)


def _open(path: Path) -> openslide.OpenSlide:
    """Raises `SlideFormatError` for a file that OpenSlide cannot open."""
    try:
        slide = openslide.OpenSlide(path)
    except (openslide.OpenSlideError, OSError) as error:
        raise SlideFormatError(
            f"{path}: OpenSlide cannot open it ({error}); {_file_hint(path)}"
        ) from error
    slide.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))
    return slide


def _without_interruption(close: Callable[[], object]) -> None:
    """Call what Ctrl-C must not interrupt: in a thread, which it does not reach.

    Between the library's closing of a slide and openslide-python's note of it, Ctrl-C would have
    its memory freed a second time. Loader processes do not heed it, and need no thread.
    """
    is_heeded = signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, signal.SIG_DFL, None)
    if not is_heeded or current_thread() is not main_thread():
        close()
        return
    thread = Thread(target=close)
    thread.start()
    thread.join()


def _flatten(rgba: Pixels, background: tuple[int, int, int], out: Pixels) -> None:
    """Lay `rgba` (height, width, 4) over the background colour, into `out` (height, width, 3)."""
    alpha = rgba[..., 3]
    out[:] = rgba[..., :3]
    if alpha.min() == 255:
        return
    clear = alpha < 255
    weight = alpha[clear].astype(np.uint16)[:, None]
    ground = np.asarray(background, np.uint16) * (255 - weight)
    out[clear] = (rgba[clear][:, :3] * weight + ground + 127) // 255


def _facts(slide: openslide.OpenSlide) -> SlideFacts:
    """What the properties tell; all but the background."""
    properties = slide.properties
    downsamples = tuple(float(value) for value in slide.level_downsamples)
    dimensions = tuple(Size(*size) for size in slide.level_dimensions)
    mpp, doubt = _mpp(properties)
    bounds, remarks = _bounds(properties, dimensions[0])
    return SlideFacts(
        level_dimensions=dimensions,
        level_downsamples=downsamples,
        tile_sizes=tuple(_tile(properties, level) for level in range(slide.level_count)),
        mpp=mpp,
        objective_power=_number(properties, openslide.PROPERTY_NAME_OBJECTIVE_POWER),
        background=WHITE,
        vendor=properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown"),
        reader=READER,
        reader_reason="it opens every format",
        shifted_levels=frozenset(n for n, d in enumerate(downsamples) if not d.is_integer()),
        bounds=bounds,
        remarks=remarks if doubt is None else (*remarks, doubt),
    )


def _bounds(properties: Any, dimensions: Size) -> tuple[Region | None, tuple[str, ...]]:
    """What was scanned, and what is to be said of it."""
    try:
        return read_bounds(properties, dimensions), ()
    except ValueError as error:
        return None, (f"its bounds are left aside, and the whole slide counts ({error})",)


def _tile(properties: Any, level: int) -> Size | None:
    width = properties.get(f"openslide.level[{level}].tile-width")
    height = properties.get(f"openslide.level[{level}].tile-height")
    return Size(int(width), int(height)) if width and height else None


def _mpp(properties: Any) -> tuple[tuple[float, float] | None, str | None]:
    """Micrometres per pixel (x, y), if a scanner can have them, and what is wrong with them."""
    x = _number(properties, openslide.PROPERTY_NAME_MPP_X)
    y = _number(properties, openslide.PROPERTY_NAME_MPP_Y)
    return scanned_mpp(x, y)


def _number(properties: Any, name: str) -> float | None:
    """A positive, finite number, or None: scanners also write 0, nothing, or a comma."""
    try:
        value = float(str(properties[name]).replace(",", "."))
    except (KeyError, ValueError):
        return None
    return value if 0 < value < float("inf") else None


def _file_hint(path: Path) -> str:
    """What else the file may be: a common reason, or its size."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
        if head.startswith(b"version https://git-lfs"):
            return "it is a Git LFS pointer: fetch the slide itself with `git lfs pull`"
        if (content := TiffContent.of(path)) is not None:
            return f"it is {content}: {content.reading}"
        return f"the file has {path.stat().st_size} bytes"
    except OSError as error:
        return f"reading it says: {error.strerror}"
