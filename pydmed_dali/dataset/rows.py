"""The rows of a table: of a CSV file, or of columns or rows that are in memory already."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydmed_dali.dataset.patient import absolute
from pydmed_dali.dataset.spelling import composed
from pydmed_dali.errors import DatasetError
from pydmed_dali.text import printable, shorten_list

_DELIMITERS = ",;\t"
_FIRST_ROW = 2  # of a file, as a spreadsheet counts: the header is row 1


class DataFrame(Protocol):
    """What is asked of a pandas or polars DataFrame; neither is a dependency."""

    def to_dict(self) -> Mapping[Any, Any]:
        """The columns by name."""
        ...


TableLike = (
    str
    | os.PathLike[str]
    | Mapping[str, Iterable[object]]
    | Iterable[Mapping[str, object]]
    | DataFrame
)
"""A CSV file's path, columns by name, rows by column, or a DataFrame."""


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    number: int
    """As a spreadsheet shows it (the header is 1), or for a table in memory its position from 0."""
    cells: Mapping[str, object]
    """Values by column; a cell that the row does not have is left out."""

    def is_empty(self, column: str) -> bool:
        """Whether a cell holds nothing: blank text, None, NaN, or pandas' NA."""
        cell = self.cells.get(column)
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            return True
        try:
            return bool(cell != cell)
        except (TypeError, ValueError):  # of NA it is not known whether it equals itself
            return True


@dataclass(frozen=True)
class Table:
    """Rows, and what messages call their origin."""

    name: str
    """The file's path, or `the table`."""
    folder: Path
    """What paths in the table are relative to unless told otherwise; absolute."""
    columns: tuple[str, ...]
    """Names of the columns, in order."""
    rows: tuple[Row, ...]
    """Rows that hold anything, in order."""
    is_text: bool
    """Whether cells are text because the file knows nothing else."""


def read_rows(table: TableLike) -> Table:
    """The rows of anything that `Dataset.from_table` takes."""
    if isinstance(table, str | os.PathLike):
        return _rows_of_file(absolute(table))
    if hasattr(table, "to_dict"):
        return _rows_of_columns(_columns_of_frame(table))
    if isinstance(table, Mapping):
        return _rows_of_columns(table)
    rows = list(table) if isinstance(table, Iterable) else [table]
    strange = [f"row {n} is a {type(r).__name__}" for n, r in enumerate(rows) if not _is_row(r)]
    if strange:
        raise DatasetError(
            "a table is the path of a CSV file, a mapping of columns, a sequence of mappings or a "
            f"DataFrame, but {shorten_list(strange)}"
        )
    columns = dict.fromkeys(composed(str(name)) for row in rows for name in row)
    cells = [{composed(str(name)): value for name, value in row.items()} for row in rows]
    return _in_memory(tuple(columns), cells)


def _is_row(row: object) -> bool:
    return isinstance(row, Mapping)


def at(numbers: Sequence[int]) -> str:
    """Rows as messages name them."""
    if len(numbers) == 1:
        return f"row {numbers[0]}"
    return f"rows {shorten_list(numbers)} ({len(numbers)} rows)"


def _rows_of_file(file: Path) -> Table:
    path = printable(file)
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            text = opened.read()
    except OSError as error:
        raise DatasetError(f"{path}: the table cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path} is not a UTF-8 text (byte {error.start}); save the table as UTF-8 CSV"
        ) from error
    lines = _split(path, text)
    header = [composed(name.strip()) for name in next(lines, [])]
    _check_header(path, header)
    rows = []
    for number, cells in enumerate(lines, start=_FIRST_ROW):
        stripped = [cell.strip() for cell in cells]
        if any(stripped):
            rows.append(Row(number, _named(path, number, header, stripped)))
    return Table(path, file.parent, tuple(filter(None, header)), tuple(rows), is_text=True)


def _split(path: str, text: str) -> Iterator[list[str]]:
    """Rows of cells; the delimiter is the one that parts the first line into most cells."""
    first = text.splitlines()[:1]
    delimiter = max(_DELIMITERS, key=lambda mark: _cells(first, mark))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        yield from reader
    except csv.Error as error:
        raise DatasetError(f"{path}: line {reader.line_num} is no CSV: {error}") from error


def _cells(first: list[str], delimiter: str) -> int:
    """How many cells a delimiter parts the first line into; 0 where that makes no CSV."""
    try:
        return len(next(csv.reader(first, delimiter=delimiter), []))
    except csv.Error:
        return 0


def _check_header(path: str, header: list[str]) -> None:
    if not any(header):
        raise DatasetError(f"{path} is empty; the first line of a table names its columns")
    repeated = {name for name in header if name and header.count(name) > 1}
    if repeated:
        raise DatasetError(f"{path} has two columns called {sorted(repeated)[0]!r}; rename one")


def _named(path: str, number: int, header: list[str], cells: list[str]) -> dict[str, object]:
    """Cells by column; columns without a name are left out."""
    if len(cells) < len(header) or any(cells[len(header) :]):
        raise DatasetError(
            f"{path}: row {number} has {len(cells)} cells, but the header names {len(header)} "
            "columns; quote cells that hold the delimiter"
        )
    return {name: cell for name, cell in zip(header, cells, strict=False) if name}


def _columns_of_frame(frame: Any) -> Mapping[Any, Any]:
    """The columns of a DataFrame, as lists where it can: an index that repeats loses no row."""
    try:
        columns = frame.to_dict("list")
    except TypeError:
        columns = frame.to_dict()
    if not isinstance(columns, Mapping):
        raise DatasetError(f"to_dict() of a {type(frame).__name__} gave no mapping of columns")
    return columns


def _rows_of_columns(columns: Mapping[Any, Any]) -> Table:
    values: dict[str, list[object]] = {}
    for name, cells in columns.items():
        if isinstance(cells, str) or not isinstance(cells, Iterable):
            raise DatasetError(
                f"column {str(name)!r} of the table is {cells!r}; a column is a sequence with one "
                "cell a row"
            )
        values[composed(str(name))] = list(cells.values() if isinstance(cells, Mapping) else cells)
    lengths = {name: len(cells) for name, cells in values.items()}
    if len(set(lengths.values())) > 1:
        raise DatasetError(f"the columns of the table have different lengths: {lengths}")
    rows = [dict(zip(values, cells, strict=True)) for cells in zip(*values.values(), strict=True)]
    return _in_memory(tuple(values), rows)


def _in_memory(columns: tuple[str, ...], rows: list[dict[str, object]]) -> Table:
    numbered = tuple(Row(number, cells) for number, cells in enumerate(rows))
    return Table("the table", Path.cwd(), columns, numbered, is_text=False)
