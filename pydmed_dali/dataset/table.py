"""Patients from a table with one row a slide."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydmed_dali.dataset.dicom_series import read_header
from pydmed_dali.dataset.labels import labels_of_patients
from pydmed_dali.dataset.listing import ending_of
from pydmed_dali.dataset.name_lookup import NameLookup
from pydmed_dali.dataset.patient import Label, Patient, Record, absolute
from pydmed_dali.dataset.rows import Row, Table, TableLike, at, read_rows
from pydmed_dali.dataset.slide_key import SlideFile, SlideKey, is_same_slide, key_of, kinship
from pydmed_dali.dataset.spelling import composed, warn_of_look_alikes
from pydmed_dali.errors import DatasetError, OptionError
from pydmed_dali.text import closest_match, printable, shorten_list

logger = logging.getLogger("pydmed_dali.dataset")

PATIENT, LABEL = "patient", "label"
"""Columns that are read where they are there, and may be absent."""

Paths = Mapping[int, PurePosixPath]
"""Each slide's path below the root, by the number of its row."""


@dataclass(frozen=True, slots=True)
class _Found:
    """The file that a row means."""

    relative: PurePosixPath
    """Its path below the root."""
    slide: SlideFile
    shows_slide: bool
    """Whether it is one to open; not a label or an overview of a DICOM slide."""


def patients_of_table(
    table: TableLike,
    root: str | os.PathLike[str] | None,
    slide: str,
    patient: str | None,
    label: str | None,
    missing: str,
) -> tuple[Patient, ...]:
    """The patients that `Dataset.from_table` is made of."""
    if missing not in ("raise", "skip"):
        raise OptionError(f"missing must be 'raise' or 'skip', not {missing!r}")
    read = read_rows(table)
    slide = composed(slide)
    _require(read, slide)
    patient = _if_there(read, patient and composed(patient), PATIENT)
    label = _if_there(read, label and composed(label), LABEL)
    base = read.folder if root is None else absolute(root)
    found = _find(read, _paths(read, slide, base), base, missing)
    rows = [row for row in read.rows if row.number in found]
    ids = _ids(read, rows, patient, {number: file.relative for number, file in found.items()})
    labels = {} if label is None else labels_of_patients(read, rows, ids, label)
    twice = _twice(read, rows, ids, found, patient is not None, labels)
    groups: dict[str, list[Record]] = {}
    for row, name in zip(rows, ids, strict=True):
        if row.number in twice:
            continue
        infos = {key: cell for key, cell in row.cells.items() if key not in (slide, patient, label)}
        groups.setdefault(name, []).append(Record(base, found[row.number].relative, infos))
    if patient is not None:
        warn_of_look_alikes("patient", groups)
    return tuple(Patient(name, tuple(r), labels.get(name)) for name, r in groups.items())


def _require(table: Table, column: str) -> None:
    if column not in table.columns:
        near = closest_match(column, table.columns)
        raise DatasetError(
            f"{table.name} has no column {column!r}"
            + (f"; did you mean {near!r}?" if near else "")
            + f" (columns: {shorten_list(table.columns) or 'none'})"
        )


def _if_there(table: Table, column: str | None, default: str) -> str | None:
    """The column; None where it is the default one and the table has nothing like it."""
    if column != default or column in table.columns:
        if column is not None:
            _require(table, column)
        return column
    near = closest_match(column, table.columns)
    if near:
        raise DatasetError(
            f"{table.name} has no column {column!r}, but one called {near!r}; pass "
            f"{default}={near!r} to use it, or {default}=None to do without"
        )
    return None


def _paths(table: Table, column: str, base: Path) -> Paths:
    if not table.rows:
        raise DatasetError(f"{table.name} has no rows; a dataset needs at least one slide")
    empty = [row.number for row in table.rows if row.is_empty(column)]
    if empty:
        raise DatasetError(f"{table.name} names no slide ({column!r}) in {at(empty)}")
    paths = {row.number: _below(table, row.number, row.cells[column], base) for row in table.rows}
    first: dict[PurePosixPath, int] = {}
    for number, path in paths.items():
        if first.setdefault(path, number) != number:
            raise DatasetError(
                f"{table.name}: the slide {str(path)!r} is in rows {first[path]} and {number}; "
                "a slide has one row"
            )
    return paths


def _below(table: Table, row: int, cell: object, base: Path) -> PurePosixPath:
    """The slide's path below `base`; one that leads elsewhere is refused."""
    text = os.fspath(cell) if isinstance(cell, str | os.PathLike) else None
    if not isinstance(text, str) or "\0" in text:
        raise DatasetError(f"{table.name}: row {row}: {cell!r} is not the path of a slide")
    path = PurePosixPath(text.strip())
    if ".." in path.parts or (path.is_absolute() and not path.is_relative_to(base)):
        raise DatasetError(
            f"{table.name}: row {row}: the slide {text!r} does not lie below "
            f"{printable(base)}; paths are relative to root, have no '..' in them, and lead below "
            "root where they are absolute; pass a root that holds all slides"
        )
    return path.relative_to(base) if path.is_absolute() else path


def _find(table: Table, paths: Paths, base: Path, missing: str) -> dict[int, _Found]:
    """The file of each row; rows without one are left out or raise, as `missing` says."""
    lookup = NameLookup(base)
    found: dict[int, _Found] = {}
    for number, path in paths.items():
        file = _file(base, path) or _looked_up(table, number, base, path, lookup)
        if file is not None:
            found[number] = file
    absent = [f"row {number}: {path}" for number, path in paths.items() if number not in found]
    if not absent:
        return found
    below = f"below {printable(base)} ({shorten_list(absent)})"
    observed = f"{len(absent)} of {len(paths)} slides are no files {below}"
    if missing == "raise" or not found:
        raise DatasetError(
            f"{table.name}: {observed}; correct the paths or root"
            + (", or leave them out with missing='skip'" if found else "")
        )
    logger.warning("%s: %s; they are left out", table.name, observed)
    return found


def _file(base: Path, relative: PurePosixPath) -> _Found | None:
    """The regular file at a path; None where there is none."""
    path = base / relative
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    header = read_header(path) if ending_of(path.name) == ".dcm" else None
    if header is None or not header.is_of_slide:
        return _Found(relative, SlideFile(path, key_of(status)), True)
    return _Found(relative, SlideFile(path, header.series), header.kind == "VOLUME")


def _looked_up(
    table: Table, row: int, base: Path, path: PurePosixPath, lookup: NameLookup
) -> _Found | None:
    """The file that a row means by another spelling of its name, or by a name without ending."""
    try:
        other = lookup.find(path)
    except DatasetError as error:
        raise DatasetError(f"{table.name}: row {row}: {printable(path)}: {error}") from None
    return None if other is None else _file(base, other)


def _twice(
    table: Table,
    rows: Sequence[Row],
    ids: Sequence[str],
    found: Mapping[int, _Found],
    has_patients: bool,
    labels: Mapping[str, Label],
) -> set[int]:
    """Rows that name a slide of an earlier row by another name, and so are left out, with a log.

    Where they name several files of a DICOM slide, one that shows the slide stays. Raises where
    such rows disagree on the patient or the label.
    """
    first: dict[SlideKey, tuple[int, str]] = {}
    twice: dict[int, int] = {}
    for row, name in zip(rows, ids, strict=True):
        file = found[row.number]
        assert file.slide.key is not None
        other, owner = first.setdefault(file.slide.key, (row.number, name))
        if other == row.number or not is_same_slide(found[other].slide, file.slide):
            continue
        if (has_patients and owner != name) or labels.get(owner) != labels.get(name):
            raise DatasetError(
                f"{table.name}: rows {other} and {row.number} "
                f"({printable(found[other].relative)}, {printable(file.relative)}) are "
                f"{kinship(file.slide)}, but differ in patient or label; one slide must not be "
                "in two parts of a split: remove one of the rows"
            )
        if file.shows_slide and not found[other].shows_slide:
            first[file.slide.key] = (row.number, name)
            twice[other] = row.number
        else:
            twice[row.number] = other
    if twice:
        named = [f"row {row} ({found[row].relative}) is row {o}" for row, o in twice.items()]
        logger.warning(
            "%s: %d rows name a slide of another row by another name and are left out: %s",
            table.name,
            len(twice),
            shorten_list(named),
        )
    return set(twice)


def _ids(table: Table, rows: Sequence[Row], column: str | None, paths: Paths) -> list[str]:
    """The patient of each row; without a column every slide is a patient of its own."""
    if column is None:
        return [composed(str(paths[row.number])) for row in rows]
    empty = [row.number for row in rows if row.is_empty(column)]
    if empty:
        raise DatasetError(
            f"{table.name} names no patient ({column!r}) in {at(empty)}; name one in every row, or "
            "pass patient=None to make every slide a patient of its own"
        )
    return [composed(str(row.cells[column]).strip()) for row in rows]
