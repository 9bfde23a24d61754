"""Patients from a folder of slides."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pydmed_dali.dataset.listing import (
    SLIDE_EXTENSIONS,
    Listing,
    list_slides,
    passed_over_in_words,
)
from pydmed_dali.dataset.patient import Label, Patient, Record, absolute, composed_label
from pydmed_dali.dataset.slide_key import SlideFile, SlideKey, is_same_slide, kinship
from pydmed_dali.dataset.spelling import composed, warn_of_look_alikes
from pydmed_dali.errors import DatasetError
from pydmed_dali.text import printable, shorten_list

logger = logging.getLogger("pydmed_dali.dataset")

PatientOf = Callable[[Path], str]
LabelOf = Callable[[Path], Label | None]

_T = TypeVar("_T")


def patients_of_folder(
    folder: str | os.PathLike[str], label: LabelOf | None, patient: PatientOf | None
) -> tuple[tuple[Patient, ...], dict[str, tuple[Path, ...]]]:
    """The patients that `Dataset.from_folder` is made of, and the files that are passed over."""
    root = absolute(folder)
    if not os.path.isdir(root):
        raise DatasetError(
            f"{printable(root)} is not a folder; from_folder needs one that holds slides"
        )
    listing = list_slides(root)
    slides, twice = _once(listing)
    if not slides:
        raise DatasetError(_nothing_found(root, listing))
    _check_twice(twice, label, patient)
    groups: dict[str, list[Record]] = {}
    for path in slides:
        relative = PurePosixPath(path.relative_to(root).as_posix())
        name = str(relative) if patient is None else str(_ask(patient, path, "patient"))
        groups.setdefault(composed(name), []).append(Record(root, relative))
    labels = {} if label is None else _labels(groups, label)
    if patient is not None:
        warn_of_look_alikes("patient", groups)
    patients = tuple(Patient(name, tuple(r), labels.get(name)) for name, r in groups.items())
    return patients, {reason: tuple(paths) for reason, paths in listing.passed_over.items()}


def _nothing_found(root: Path, listing: Listing) -> str:
    told = (
        f"{printable(root)} holds no slide: no file below it ends in one of "
        f"{' '.join(sorted(SLIDE_EXTENSIONS))}"
    )
    if listing.passed_over:
        return f"{told} and is one; {passed_over_in_words(listing.passed_over, root)}"
    return f"{told} (DICOM files are found by the ending .dcm; a table may name them without)"


def _once(listing: Listing) -> tuple[list[Path], list[tuple[SlideFile, Path, str]]]:
    """Each slide once, and (slide, another name of it, what the names are) of those with several.

    What has several names is logged.
    """
    first: dict[SlideKey, SlideFile] = {}
    slides: list[Path] = []
    twice: list[tuple[SlideFile, Path, str]] = []
    for slide in listing.slides:
        other = slide if slide.key is None else first.setdefault(slide.key, slide)
        if other is not slide and is_same_slide(other, slide):
            twice.append((other, slide.path, kinship(slide)))
        else:
            slides.append(slide.path)
    if twice:
        named = [f"{printable(p)} is {printable(one.path)}" for one, p, _ in twice]
        logger.warning(
            "%d slides have several names and are listed once each: %s",
            len(twice),
            shorten_list(named),
        )
    if listing.linked:
        named = [f"{printable(folder)} is {printable(real)}" for folder, real in listing.linked]
        logger.warning(
            "%d folders have several names, and their slides are listed once: %s",
            len(named),
            shorten_list(named),
        )
    for folder, real in listing.linked:
        below = f"{real}/"
        twice += [
            (slide, folder / slide.path.relative_to(real), "names of one file")
            for slide in listing.slides
            if str(slide.path).startswith(below)
        ]
    return slides, twice


def _check_twice(
    twice: Iterable[tuple[SlideFile, Path, str]], label: LabelOf | None, patient: PatientOf | None
) -> None:
    """Raise where two names of one slide would belong to two patients, or have two labels."""
    for slide, path, kind in twice:
        for function, name in ((patient, "patient"), (label, "label")):
            if function is None:
                continue
            asked: Callable[[Path], object] = function
            one, other = _ask(asked, slide.path, name), _ask(asked, path, name)
            if one != other:
                raise DatasetError(
                    f"{printable(slide.path)} and {printable(path)} are {kind}, but {name} gives "
                    f"{one!r} for the first and {other!r} for the second; one slide must not be in "
                    "two parts of a split: remove one of the names, or give both the same"
                )


def _ask(function: Callable[[Path], _T], path: Path, name: str) -> _T:
    try:
        return function(path)
    except Exception as error:
        raise DatasetError(f"{name}({str(path)!r}) raised {error!r}") from error


def _labels(groups: Mapping[str, list[Record]], label: LabelOf) -> dict[str, Label]:
    """The one label of each patient; the function is asked once a slide."""
    labels: dict[str, Label] = {}
    missing: list[Path] = []
    for name, path in _paths(groups):
        value = composed_label(_ask(label, path, "label"))
        if value is None:
            missing.append(path)
        elif labels.setdefault(name, value) != value:
            raise DatasetError(
                f"patient {name!r} has slides of two labels, {labels[name]!r} and {value!r} "
                f"({printable(path)}); a patient has one label"
            )
    if missing:
        raise DatasetError(
            f"label gave None for {len(missing)} of {sum(map(len, groups.values()))} slides "
            f"({shorten_list(missing)}); give every slide a label, or leave those slides out"
        )
    return labels


def _paths(groups: Mapping[str, list[Record]]) -> Iterator[tuple[str, Path]]:
    for name, records in groups.items():
        for record in records:
            yield name, record.path
