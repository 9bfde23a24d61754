"""DICOM files of a folder, grouped by series: which of them are slides, and why others are not."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydmed_dali.errors import DatasetError
from pydmed_dali.text import printable

_SLIDE_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image Storage
_IMAGE_TYPE, _CLASS, _SERIES = 0x00080008, 0x00080016, 0x0020000E
_DAMAGED = "files without a whole DICOM header"
_NO_VOLUME = "series of slides without an image of the slide (ImageType VOLUME)"


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """What the first kilobytes of a DICOM file say."""

    sop_class: str
    """UID of what the file holds."""
    series: str
    """UID of its series: the files of a slide share it; empty where the file has none."""
    kind: str
    """The third value of ImageType: VOLUME, LABEL, OVERVIEW, THUMBNAIL; empty where missing."""

    @property
    def is_of_slide(self) -> bool:
        """Whether the file belongs to a whole-slide image."""
        return self.sop_class == _SLIDE_CLASS and bool(self.series)


@dataclass(slots=True)
class SeriesOfFolder:
    """What the DICOM files of one folder are."""

    slides: dict[str | None, Path] = field(default_factory=dict)
    """The file to open of each slide, by its series; None for one of which no file can be read."""
    passed_over: list[tuple[str, Path]] = field(default_factory=list)
    """(reason, file) of those that are no slide; the other files of a slide are not among them."""


def group_series(paths: Iterable[Path]) -> SeriesOfFolder:
    """Group DICOM files of one folder, in the order of their names, by series.

    A slide is opened by the first of its files that shows the slide itself (ImageType VOLUME), not
    its label or an overview; OpenSlide finds the others of the series beside it. Where no file of
    the folder has a DICOM header, the first counts as a slide, as any damaged slide does: it is
    reported when it is opened. Reads a few kilobytes of each file. Raises `DatasetError` for a file
    that cannot be read at all.
    """
    found = SeriesOfFolder()
    without: dict[str, list[Path]] = {}
    damaged: list[Path] = []
    for path in paths:
        header = read_header(path)
        if header is None:
            damaged.append(path)
        elif not header.is_of_slide:
            found.passed_over.append((_kind_of(header), path))
        elif header.kind == "VOLUME":
            found.slides.setdefault(header.series, path)
        else:
            without.setdefault(header.series, []).append(path)
    for series, files in without.items():
        if series not in found.slides:
            found.passed_over += [(_NO_VOLUME, path) for path in files]
    if damaged and not (found.slides or found.passed_over):
        found.slides[None] = damaged.pop(0)
    found.passed_over += [(_DAMAGED, path) for path in damaged]
    return found


def read_header(path: Path) -> DicomHeader | None:
    """The header of a DICOM file; None for what is no DICOM file, or is damaged there.

    Raises `DatasetError` where the file cannot be read: its series would be unknown.
    """
    from pydicom.config import disable_value_validation
    from pydicom.filereader import read_partial

    try:
        if not os.path.isfile(path):
            return None
        with (
            path.open("rb") as file,
            disable_value_validation(),
            warnings.catch_warnings(action="ignore"),
        ):
            try:
                found = read_partial(
                    file,
                    stop_when=lambda tag, vr, length: tag > _SERIES,
                    specific_tags=[_IMAGE_TYPE, _CLASS, _SERIES],
                )
                return _header_of(found)
            except OSError:
                raise
            except Exception:  # pydicom raises whatever a damaged file leads it to
                return None
    except EOFError:
        return None
    except OSError as error:
        raise DatasetError(
            f"{printable(path)} cannot be read ({error.strerror}), so it is not known to which "
            "DICOM slide it belongs; make it readable, or move it away"
        ) from error


def _header_of(found: Any) -> DicomHeader | None:
    """The header of what pydicom read; None where it does not say what the file holds."""
    sop_class = found.file_meta.get("MediaStorageSOPClassUID") or found.get("SOPClassUID")
    kind = found.get("ImageType")
    values = [kind] if isinstance(kind, str) else list(kind or ())
    third = str(values[2]) if len(values) > 2 else ""
    series = str(found.get("SeriesInstanceUID") or "")
    return DicomHeader(str(sop_class), series, third) if sop_class else None


def _kind_of(header: DicomHeader) -> str:
    from pydicom.uid import UID

    if header.sop_class == _SLIDE_CLASS:
        return "slides that name no series (SeriesInstanceUID)"
    return str(UID(header.sop_class).name)
