"""Files that a user keeps beside slides, one for each: masks, annotations. Opens none of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pydmed_dali.dataset import Dataset, Record
from pydmed_dali.errors import OptionError

Beside = str | os.PathLike[str] | Callable[[Path], str | os.PathLike[str] | None]
"""A folder of files named as the slides, or a function from a slide's path to its file's."""


def files_beside(
    dataset: Dataset, option: str, given: Beside, endings: Sequence[str]
) -> dict[Path, Path | None]:
    """The file of each slide, by the slide's path; None where a function gives None.

    In a folder, the file of `a/slide.svs` (below the dataset's folder) is `a/slide` or
    `a/slide.svs` with the first of `endings` for which there is one, else the first of these names,
    which is then no file. A function runs in this process. Raises `OptionError`, naming the
    `option`, for a missing folder or a function that raises.
    """
    if callable(given):
        return {record.path: _asked(option, given, record.path) for record in dataset.slides}
    folder = Path(given)
    if not folder.is_dir():
        raise OptionError(f"{option}={str(folder)!r} is no folder; give one, or a function")
    return {record.path: _looked_up(folder, record, endings) for record in dataset.slides}


def names_beside(slide: Path, endings: Sequence[str]) -> list[Path]:
    """What a slide's file may be called in the slide's folder, in the order of the search."""
    return [
        name
        for ending in endings
        for name in (slide.with_suffix(ending), slide.with_name(slide.name + ending))
    ]


def _looked_up(folder: Path, record: Record, endings: Sequence[str]) -> Path:
    place = folder.absolute() / record.relative
    names = [name for name in names_beside(place, endings) if name != record.path]
    return next((name for name in names if name.is_file()), names[0])


def _asked(
    option: str, function: Callable[[Path], str | os.PathLike[str] | None], slide: Path
) -> Path | None:
    try:
        file = function(slide)
        return None if file is None else Path(file).absolute()
    except Exception as error:
        raise OptionError(f"{option}({str(slide)!r}) raised {error!r}") from error
