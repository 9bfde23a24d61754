"""How a worker opens a slide, chooses places and reads a chunk: the place for a user's own code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike, NDArray

from pydmed_dali.geometry import Point, Region
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.open_slide import open_slide
from pydmed_dali.slide.pixel_format import RGB8
from pydmed_dali.slide.slide import Slide
from pydmed_dali.slide.view import View, read_view

if TYPE_CHECKING:
    from pydmed_dali.worker.visit import Visit


class BigChunkLoader:
    """Opens slides, places chunks and crops, and reads chunks, in a worker process.

    Subclass it for code of your own: each method stands for itself. docs/user_code.md has examples.

    An instance is pickled (by cloudpickle, so it may be defined in a script or a notebook) when the
    source is made, and unpickled in every worker: keep files and caches out of it, and open them in
    `open_slide`. What `open_slide` or `extract_bigchunk` raise counts as a slide, or region, that
    cannot be read; what else `place_chunk` or `place_crops` raise ends the run (`UserCodeError`).
    """

    pixel_format = RGB8
    """What a pixel is made of; another one for slides that are not 8-bit RGB."""
    cache = Cache(None)
    """Where `open_slide` may keep what it found out of files; set by the process that loads."""

    def open_slide(self, path: Path) -> Slide:
        """Open the slide at `path`; the worker keeps it open for a while and closes it."""
        return open_slide(path, self.cache)

    def place_chunk(self, visit: Visit) -> tuple[Point, Any]:
        """(corner of the BigChunk, state for the patient's next visit): a chunk policy.

        The corner lies in view pixels, from (0, 0) to `visit.last_origin`; crops are then drawn
        from the whole BigChunk. The state is of JSON's kinds, at most 4,096 characters long; it
        comes back as `visit.state` and is part of a saved state. Own code that is a pure function
        of `visit` gives the same crops for any number of workers, and in a resumed run.

        A loader that has this method of its own gets the visits of one patient one after the other.
        It is not asked where another place or slide stands in for one that cannot be read: the plan
        chooses, and state and messages wait for the next visit. Finite sources keep no state.
        """
        return visit.planned, None

    def place_crops(self, visit: Visit, origin: Point, count: int) -> ArrayLike:
        """Where the crops of the BigChunk at `origin` lie: (count, 2) integers, (y, x) of their
        upper left corners from the BigChunk's corner on, in view pixels: a crop sampler.

        They lie whole on the slide and in the BigChunk. Called before it is read, so that no more
        is decoded than they need. `visit.draw_crops` draws places with enough tissue, if
        `min_tissue` is given; for others that promise does not hold.
        """
        return visit.draw_crops(origin, count)

    def extract_bigchunk(
        self, slide: Slide, view: View, origin: Point, out: NDArray[Any], parts: Sequence[Region]
    ) -> None:
        """Fill `out`, (height, width, channels) of `pixel_format`, with the pixels of `view` from
        `origin` on.

        `origin` is in view pixels. Crops touch only the `parts` of `out`, so what lies outside of
        them may be left as it is. `out` is memory of the ring, or the next chunk's too: fill it in
        place, and keep no reference to it. Places outside the slide take its background colour.
        """
        read_view(slide, view, origin, out, parts)
