"""A look at every slide before its tiles are counted: its view, and the tiles that are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.errors import SlideError, SlideFormatError
from pydmed_dali.loader.big_chunk_loader import BigChunkLoader
from pydmed_dali.loader.wanted import TilesPlan, WantedFinder
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.scale import Scale
from pydmed_dali.slide.view import View

_THREADS = 8

Found = tuple[View, NDArray[np.bool_] | None]
"""The view that is read, and which of its tiles are wanted, (rows, columns); None for all."""


def survey(
    paths: Sequence[Path], scale: Scale, plan: TilesPlan, loader: BigChunkLoader, cache: Cache
) -> list[Found | SlideError]:
    """What is found of each slide, or why nothing is, in the order of the paths.

    In threads of the calling process: what takes long is waiting for the files, and computing
    tissue masks, which the cache keeps.
    """

    def look(path: Path) -> Found | SlideError:
        try:
            slide = loader.open_slide(path)
            try:
                view = scale.view(slide.facts, path)
                if plan.wants_all:
                    return view, None
                return view, WantedFinder(plan, cache).find(path, slide, view)
            finally:
                slide.close()
        except SlideError as error:
            return error
        except Exception as error:
            return SlideFormatError(f"{path}: opening it raised {error!r}")

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="pydmed-dali-survey") as pool:
        return list(pool.map(look, paths))
