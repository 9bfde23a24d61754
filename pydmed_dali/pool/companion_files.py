"""Files that a user keeps beside slides, one for each: masks, annotations. Opens none of them."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydmed_dali.dataset import Dataset, Record
from pydmed_dali.dataset.spelling import variants
from pydmed_dali.errors import OptionError
from pydmed_dali.text import shorten_list

CompanionFiles = str | os.PathLike[str] | Callable[[Path], str | os.PathLike[str] | None]
"""A folder of files named as the slides, a function from a slide's path to its file's, or, of a
dataset of one slide, the path of its file."""

_ALL, _ONE = "a folder of files named as the slides", "the path of the slide's file"

logger = logging.getLogger("pydmed_dali.pool")


def companion_files(
    dataset: Dataset, option: str, given: CompanionFiles, endings: Sequence[str]
) -> dict[Path, Path | None]:
    """The file of each slide, by the slide's path; None where a function gives None.

    In a folder, the file of `a/slide.svs` (below the dataset's folder) is `a/slide` or
    `a/slide.svs` with the first of `endings` for which there is one, else the first of these names,
    which is then no file. A name in another of Unicode's normal forms is found too. Other names
    that are files too, and a file that serves several slides, are warned of by logging. A function
    runs in this process. Raises `OptionError`, naming the `option`, for a missing folder, one file
    for several slides, or a function that raises.
    """
    if callable(given):
        return {record.path: _asked(option, given, record.path) for record in dataset.slides}
    folder = Path(given)
    if os.path.isfile(folder):
        return {_only_slide(dataset, option, folder): folder.absolute()}
    if not os.path.isdir(folder):
        what = f"{_ALL}, or {_ONE}" if len(dataset.slides) == 1 else _ALL
        raise OptionError(
            f"{option}={str(folder)!r} is no folder{' and no file' * (len(dataset.slides) == 1)}; "
            f"give {what}, or a function from a slide's path to its file's"
        )
    names = {record.path: _names(folder, record, endings) for record in dataset.slides}
    found = {
        slide: [name for name in each if os.path.isfile(name)] for slide, each in names.items()
    }
    _warn_of_doubts(option, found)
    return {slide: (found[slide] or each)[0] for slide, each in names.items()}


def companion_names(slide: Path, endings: Sequence[str]) -> list[Path]:
    """What a slide's file may be called in the slide's folder, in the order of the search."""
    return [
        name
        for ending in endings
        for name in (slide.with_suffix(ending), slide.with_name(slide.name + ending))
    ]


def _only_slide(dataset: Dataset, option: str, file: Path) -> Path:
    if len(dataset.slides) != 1:
        raise OptionError(
            f"{option}={str(file)!r} is one file for {len(dataset.slides)} slides; give "
            f"{_ALL}, or a function from a slide's path to its file's"
        )
    return dataset.slides[0].path


def _names(folder: Path, record: Record, endings: Sequence[str]) -> list[Path]:
    places = [folder.absolute() / spelled for spelled in variants(str(record.relative))]
    names = [name for place in places for name in companion_names(place, endings)]
    return [name for name in names if name != record.path]


def _warn_of_doubts(option: str, found: Mapping[Path, Sequence[Path]]) -> None:
    """Say which of several files is taken, and which file is taken for several slides."""
    several = [
        f"{files[0]}, not {shorten_list(files[1:])}" for files in found.values() if len(files) > 1
    ]
    if several:
        logger.warning(
            "%s: %d slides have several files, of which the first is taken: %s",
            *(option, len(several), shorten_list(several)),
        )
    slides = defaultdict(list)
    for slide, files in found.items():
        if files:
            slides[files[0]].append(slide)
    shared = [f"{file} for {shorten_list(each)}" for file, each in slides.items() if len(each) > 1]
    if shared:
        logger.warning(
            "%s: %d files are each taken for several slides of one name: %s; name the file of each "
            "slide as the slide with its ending, e.g. slide.svs%s",
            *(option, len(shared), shorten_list(shared), next(iter(slides)).suffix),
        )


def _asked(
    option: str, function: Callable[[Path], str | os.PathLike[str] | None], slide: Path
) -> Path | None:
    try:
        file = function(slide)
        return None if file is None else Path(file).absolute()
    except Exception as error:
        raise OptionError(f"{option}({str(slide)!r}) raised {error!r}") from error
