"""A look at every slide before its tiles are counted: which view of it is read."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydmed_dali.errors import SlideError, SlideFormatError
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.open_slide import open_slide
from pydmed_dali.slide.scale import Scale
from pydmed_dali.slide.view import View

_THREADS = 8


def survey(paths: Sequence[Path], scale: Scale, cache: Cache) -> list[View | SlideError]:
    """The view of each slide, or why it has none, in the order of the paths.

    In threads of the calling process: what takes long is waiting for the files.
    """

    def look(path: Path) -> View | SlideError:
        try:
            slide = open_slide(path, cache)
            try:
                return scale.view(slide.facts, path)
            finally:
                slide.close()
        except SlideError as error:
            return error
        except Exception as error:
            return SlideFormatError(f"{path}: opening it raised {error!r}")

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="pydmed-dali-survey") as pool:
        return list(pool.map(look, paths))
