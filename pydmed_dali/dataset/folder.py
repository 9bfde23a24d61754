"""Patients from a folder of slides."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pydmed_dali.dataset.patient import Label, Patient, Record, absolute
from pydmed_dali.errors import DatasetError
from pydmed_dali.wording import some

SLIDE_EXTENSIONS = frozenset(
    {
        ".bif",
        ".czi",
        ".dcm",
        ".mrxs",
        ".ndpi",
        ".scn",
        ".svs",
        ".svslide",
        ".tif",
        ".tiff",
        ".vms",
        ".vmu",
    }
)
"""Endings (lower case) of the files that OpenSlide 4 opens."""

_T = TypeVar("_T")


def patients_of_folder(
    folder: str | os.PathLike[str],
    label: Callable[[Path], Label | None] | None,
    patient: Callable[[Path], str] | None,
) -> tuple[Patient, ...]:
    """The patients that `Dataset.from_folder` is made of."""
    root = absolute(folder)
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder; from_folder needs one that holds slides")
    paths = list(_find_slides(root))
    if not paths:
        raise DatasetError(
            f"{root} holds no slide: no file below it ends in one of "
            f"{' '.join(sorted(SLIDE_EXTENSIONS))}"
        )
    groups: dict[str, list[Record]] = {}
    for path in paths:
        relative = PurePosixPath(path.relative_to(root).as_posix())
        name = str(relative) if patient is None else str(_ask(patient, path, "patient"))
        groups.setdefault(name, []).append(Record(root, relative))
    labels = {} if label is None else _labels(groups, label)
    return tuple(Patient(name, tuple(r), labels.get(name)) for name, r in groups.items())


def _find_slides(root: Path) -> Iterator[Path]:
    """Slide files below `root` in sorted order; links to folders are followed, loops are not."""
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        dicom_taken = False
        for name in sorted(files):
            ending = Path(name).suffix.lower()
            if name.startswith(".") or ending not in SLIDE_EXTENSIONS:
                continue
            if ending == ".dcm" and dicom_taken:
                continue
            dicom_taken = dicom_taken or ending == ".dcm"
            yield Path(folder, name)


def _ask(function: Callable[[Path], _T], path: Path, name: str) -> _T:
    try:
        return function(path)
    except Exception as error:
        raise DatasetError(f"{name}({str(path)!r}) raised {error!r}") from error


def _labels(
    groups: Mapping[str, list[Record]], label: Callable[[Path], Label | None]
) -> dict[str, Label]:
    """The one label of each patient; the function is asked once a slide."""
    labels: dict[str, Label] = {}
    missing: list[Path] = []
    for name, records in groups.items():
        for record in records:
            value = _ask(label, record.path, "label")
            if value is None:
                missing.append(record.path)
            elif labels.setdefault(name, value) != value:
                raise DatasetError(
                    f"patient {name!r} has slides of two labels, {labels[name]!r} and {value!r} "
                    f"({record.path}); a patient has one label"
                )
    if missing:
        raise DatasetError(
            f"label gave None for {len(missing)} of {sum(map(len, groups.values()))} slides "
            f"({some(missing)}); give every slide a label, or leave those slides out"
        )
    return labels
