"""Patients from a table with one row a slide."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from pydmed_dali.dataset.labels import labels_of_patients
from pydmed_dali.dataset.patient import Patient, Record, absolute
from pydmed_dali.dataset.rows import Row, Table, TableLike, at, read_rows
from pydmed_dali.errors import DatasetError, OptionError
from pydmed_dali.wording import closest, some

logger = logging.getLogger("pydmed_dali.dataset")

PATIENT, LABEL = "patient", "label"
"""Columns that are read where they are there, and may be absent."""

Paths = Mapping[int, PurePosixPath]
"""Each slide's path below the root, by the number of its row."""


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
    _require(read, slide)
    patient = _if_there(read, patient, PATIENT)
    label = _if_there(read, label, LABEL)
    base = read.folder if root is None else absolute(root)
    paths = _paths(read, slide, base)
    rows = _present(read, paths, base, missing)
    ids = _ids(read, rows, patient, paths)
    labels = {} if label is None else labels_of_patients(read, rows, ids, label)
    groups: dict[str, list[Record]] = {}
    for row, name in zip(rows, ids, strict=True):
        infos = {key: cell for key, cell in row.cells.items() if key not in (slide, patient, label)}
        groups.setdefault(name, []).append(Record(base, paths[row.number], infos))
    return tuple(Patient(name, tuple(r), labels.get(name)) for name, r in groups.items())


def _require(table: Table, column: str) -> None:
    if column not in table.columns:
        near = closest(column, table.columns)
        raise DatasetError(
            f"{table.name} has no column {column!r}"
            + (f"; did you mean {near!r}?" if near else "")
            + f" (columns: {some(table.columns) or 'none'})"
        )


def _if_there(table: Table, column: str | None, default: str) -> str | None:
    """The column; None where it is the default one and the table has nothing like it."""
    if column != default or column in table.columns:
        if column is not None:
            _require(table, column)
        return column
    near = closest(column, table.columns)
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
            f"{table.name}: row {row}: the slide {text!r} does not lie below {base}; paths are "
            "relative to root, have no '..' in them, and lead below root where they are absolute; "
            "pass a root that holds all slides"
        )
    return path.relative_to(base) if path.is_absolute() else path


def _present(table: Table, paths: Paths, base: Path, missing: str) -> Sequence[Row]:
    present = [row for row in table.rows if os.path.isfile(base / paths[row.number])]
    if len(present) == len(paths):
        return present
    found = {row.number for row in present}
    absent = [f"row {number}: {path}" for number, path in paths.items() if number not in found]
    observed = f"{len(absent)} of {len(paths)} slides are no files below {base} ({some(absent)})"
    if missing == "raise" or not present:
        raise DatasetError(
            f"{table.name}: {observed}; correct the paths or root"
            + (", or leave them out with missing='skip'" if present else "")
        )
    logger.warning("%s: %s; they are left out", table.name, observed)
    return present


def _ids(table: Table, rows: Sequence[Row], column: str | None, paths: Paths) -> list[str]:
    """The patient of each row; without a column every slide is a patient of its own."""
    if column is None:
        return [str(paths[row.number]) for row in rows]
    empty = [row.number for row in rows if row.is_empty(column)]
    if empty:
        raise DatasetError(
            f"{table.name} names no patient ({column!r}) in {at(empty)}; name one in every row, or "
            "pass patient=None to make every slide a patient of its own"
        )
    return [str(row.cells[column]).strip() for row in rows]
