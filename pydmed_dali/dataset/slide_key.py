"""One slide by several names: links, hard links, files of one DICOM series."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydmed_dali.errors import DatasetError
from pydmed_dali.text import printable

SlideKey = tuple[int, int] | str
"""What two names of one slide share: a file's device and inode, or a DICOM series' UID."""


@dataclass(frozen=True, slots=True)
class SlideFile:
    """A slide that was found on a disk."""

    path: Path
    """The file to open; absolute."""
    key: SlideKey | None
    """None where it is not known."""


def key_of(status: os.stat_result) -> SlideKey:
    """The key of a file of which no DICOM series is known."""
    return status.st_dev, status.st_ino


def is_same_slide(one: SlideFile, other: SlideFile) -> bool:
    """Whether two files of equal keys are one slide.

    Some file systems give many files one inode number, so size and times have to agree too.
    """
    if isinstance(one.key, str):
        return True
    try:
        first, second = os.stat(one.path), os.stat(other.path)
    except OSError:
        return False
    return _facts(first) == _facts(second)


def kinship(one: SlideFile) -> str:
    """What two names of one slide are, for messages."""
    return "files of one DICOM series" if isinstance(one.key, str) else "names of one file"


def refuse_shared_slides(slides: Iterable[tuple[str, Path]]) -> None:
    """Raise `DatasetError` where one file is a slide of two patients; one `stat` a slide.

    Args:
        slides: (patient, path) of each slide; files that are not there are not looked at.
    """
    first: dict[SlideKey, tuple[str, SlideFile]] = {}
    for patient, path in slides:
        try:
            key = key_of(os.stat(path))
        except (OSError, ValueError):
            continue
        slide = SlideFile(path, key)
        owner, other = first.setdefault(key, (patient, slide))
        if owner != patient and is_same_slide(other, slide):
            raise DatasetError(
                f"{printable(other.path)}, of patient {owner!r}, and {printable(path)}, of patient "
                f"{patient!r}, are {kinship(slide)}; one slide must not be in two parts of a split"
            )


def _facts(status: os.stat_result) -> tuple[object, ...]:
    times = status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return key_of(status), times
