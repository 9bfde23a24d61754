"""The slides below a folder: what is found, what is passed over, and what has several names."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydmed_dali.dataset.dicom_series import group_series
from pydmed_dali.dataset.slide_key import SlideFile, SlideKey, key_of
from pydmed_dali.errors import DatasetError
from pydmed_dali.text import printable, shorten_list

logger = logging.getLogger("pydmed_dali.dataset")

SLIDE_EXTENSIONS = frozenset(
    {
        ".bif",
        ".czi",
        ".dcm",
        ".mrxs",
        ".ndpi",
        ".qptiff",
        ".scn",
        ".svs",
        ".svslide",
        ".tif",
        ".tiff",
        ".vms",
        ".vmu",
    }
)
"""Endings (lower case) of files that OpenSlide 4 opens, and of Akoya's TIFFs, which it refuses."""

_DICOM = ".dcm"
_OF_SYSTEMS = frozenset({"lost+found", "$RECYCLE.BIN", "System Volume Information"})


@dataclass(slots=True)
class Listing:
    """What lies below a folder."""

    slides: list[SlideFile] = field(default_factory=list)
    """In the order of their paths, folder by folder: files before the folders beside them."""
    linked: list[tuple[Path, Path]] = field(default_factory=list)
    """(folder, the name under which its slides are listed) of folders that have two names."""
    passed_over: dict[str, list[Path]] = field(default_factory=dict)
    """DICOM files that are no slides, by the reason."""
    dangling: list[Path] = field(default_factory=list)
    """Links that lead nowhere and do not end as a slide."""


def list_slides(root: Path) -> Listing:
    """The slides below `root`, at any depth; hidden files are left out.

    Links to folders are followed, once for each folder; loops are not. Opens DICOM files alone, and
    asks the file system for nothing more than the names, but for links. Raises `DatasetError` for a
    folder that cannot be listed: its slides would be missing.
    """
    found = Listing()
    seen: dict[tuple[int, int], Path] = {}
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        status = _status(folder)
        first = seen.setdefault((status.st_dev, status.st_ino), folder)
        if first is not folder:
            if not folder.is_relative_to(first):  # else a loop
                found.linked.append((folder, first))
            continue
        try:
            entries = sorted(_visible(folder), key=lambda entry: entry.name)
        except DatasetError:
            if folder.name not in _OF_SYSTEMS:
                raise
            logger.warning("%s cannot be listed, and is left out", printable(folder))
            continue
        inner = _take(found, folder, status.st_dev, entries)
        waiting += [folder / name for name in reversed(inner)]
    _report(found, root)
    return found


def ending_of(name: str) -> str:
    """A file name's ending, in lower case; empty where it has none."""
    return os.path.splitext(name)[1].lower()


def _status(folder: Path) -> os.stat_result:
    try:
        return os.stat(folder)
    except OSError as error:
        raise _unlisted(folder, error) from error


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise _unlisted(folder, error) from error


def _unlisted(folder: Path, error: OSError) -> DatasetError:
    return DatasetError(
        f"the folder {printable(folder)} cannot be listed ({error.strerror}), so slides in it "
        "would be missing; make it readable, move it away, or name the slides in a table "
        "(Dataset.from_table)"
    )


def _take(found: Listing, folder: Path, device: int, entries: list[os.DirEntry[str]]) -> list[str]:
    """Add the slides of one folder; returns the names of the folders in it."""
    inner: list[str] = []
    dicom: list[Path] = []
    slides: list[SlideFile] = []
    for entry in entries:
        ending = ending_of(entry.name)
        if _is_folder(entry, ending):
            inner.append(entry.name)
        elif ending == _DICOM:
            dicom.append(folder / entry.name)
        elif ending in SLIDE_EXTENSIONS:
            slides.append(SlideFile(folder / entry.name, _key(entry, device)))
        elif entry.is_symlink() and not os.path.exists(entry.path):
            found.dangling.append(folder / entry.name)
    if dicom:
        series = group_series(dicom)
        slides += [SlideFile(path, uid) for uid, path in series.slides.items()]
        slides.sort(key=lambda slide: slide.path.name)
        for reason, path in series.passed_over:
            found.passed_over.setdefault(reason, []).append(path)
    found.slides += slides
    return inner


def _is_folder(entry: os.DirEntry[str], ending: str) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if ending in SLIDE_EXTENSIONS or error.errno == errno.ELOOP:
            return False  # a slide that cannot be opened is reported when it is read
        raise _unlisted(Path(entry.path), error) from error


def _key(entry: os.DirEntry[str], device: int) -> SlideKey | None:
    """Device and inode, of a link those of what it leads to: only links cost a `stat`."""
    if not entry.is_symlink():
        return device, entry.inode()
    try:
        return key_of(entry.stat())
    except OSError:
        return None


def _report(found: Listing, root: Path) -> None:
    if found.passed_over:
        logger.warning("%s: %s", printable(root), passed_over_in_words(found.passed_over, root))
    if found.dangling:
        logger.warning(
            "%s: %d links lead nowhere (%s); what they led to is left out",
            printable(root),
            len(found.dangling),
            shorten_list(found.dangling),
        )


def passed_over_in_words(passed_over: Mapping[str, list[Path]], root: Path) -> str:
    """How many DICOM files are no slides, by the reason, with an example of each."""
    count = sum(map(len, passed_over.values()))
    reasons = [
        f"{len(paths)} of {reason}, as {printable(paths[0].relative_to(root))}"
        for reason, paths in passed_over.items()
    ]
    return f"{count} DICOM files are no slides and are passed over: {'; '.join(reasons)}"
