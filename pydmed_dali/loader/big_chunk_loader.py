"""How a worker opens a slide and reads a chunk of it: the place for a user's own format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydmed_dali.geometry import Point, Region
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.open_slide import open_slide
from pydmed_dali.slide.protocol import Pixels, Slide
from pydmed_dali.slide.view import View, read_view


class BigChunkLoader:
    """Opens slides and reads chunks, in a worker process; subclass it for a format of your own.

    An instance is pickled (by cloudpickle, so it may be defined in a script or a notebook) when the
    source is made, and unpickled in every worker: keep files and caches out of it, and open them in
    `open_slide`. Whatever a method raises counts as a slide, or region, that cannot be read.
    """

    cache = Cache(None)
    """Where `open_slide` may keep what it found out of files; set by the process that loads."""

    def open_slide(self, path: Path) -> Slide:
        """Open the slide at `path`; the worker keeps it open for a while and closes it."""
        return open_slide(path, self.cache)

    def extract_bigchunk(
        self, slide: Slide, view: View, origin: Point, out: Pixels, parts: Sequence[Region]
    ) -> None:
        """Fill `out`, (height, width, 3) uint8, with the pixels of `view` from `origin` on.

        `origin` is in view pixels. Crops touch only the `parts` of `out`, so what lies outside of
        them may be left as it is. `out` lies in the shared memory of the ring: fill it in place,
        and keep no reference to it. Places outside the slide take its background colour.
        """
        read_view(slide, view, origin, out, parts)
