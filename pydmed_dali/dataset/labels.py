"""The labels of a table: one a patient, all of them names or all of them whole numbers."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence

from pydmed_dali.dataset.patient import LARGEST_LABEL, Label
from pydmed_dali.dataset.rows import Row, Table, at
from pydmed_dali.dataset.spelling import composed
from pydmed_dali.errors import DatasetError

_WHOLE = re.compile(r"0|[1-9][0-9]{0,17}")
_NUMBER = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)(e[+-]?[0-9]+)?|nan|inf", re.IGNORECASE)


def labels_of_patients(
    table: Table, rows: Sequence[Row], ids: Sequence[str], column: str
) -> dict[str, Label]:
    """The label of each patient; `ids` names the patient of each row."""
    empty = [row.number for row in rows if row.is_empty(column)]
    if empty:
        raise DatasetError(
            f"{table.name} has no label ({column!r}) in {at(empty)}; give every slide one, or pass "
            "label=None to do without labels"
        )
    cells = {row.number: row.cells[column] for row in rows}
    values = _of_texts(table, cells) if table.is_text else _of_values(table, cells)
    first: dict[str, int] = {}
    for row, name in zip(rows, ids, strict=True):
        before = first.setdefault(name, row.number)
        if values[before] != values[row.number]:
            raise DatasetError(
                f"{table.name}: patient {name!r} has the label {values[before]!r} in row {before} "
                f"and {values[row.number]!r} in row {row.number}; a patient has one label"
            )
    return {name: values[row] for name, row in first.items()}


def _of_texts(table: Table, cells: Mapping[int, object]) -> Mapping[int, Label]:
    """Labels by row of a file: numbers if all are whole ones, otherwise names."""
    texts = {row: composed(str(cell)) for row, cell in cells.items()}
    if all(_WHOLE.fullmatch(text) for text in texts.values()):
        return {row: int(text) for row, text in texts.items()}
    numbers = [row for row, text in texts.items() if _NUMBER.fullmatch(text)]
    if numbers:
        raise DatasetError(
            f"{table.name}: the label {texts[numbers[0]]!r} looks like a number, in {at(numbers)}; "
            "labels of a file are all names, or all whole numbers written 0, 1, 2, ..."
        )
    return texts


def _of_values(table: Table, cells: Mapping[int, object]) -> Mapping[int, Label]:
    """Labels by row of a table in memory, where text is a name and an int a number."""
    labels = {row: _of_value(table, row, cell) for row, cell in cells.items()}
    names = [row for row, label in labels.items() if isinstance(label, str)]
    numbers = [row for row, label in labels.items() if not isinstance(label, str)]
    if names and numbers:
        raise DatasetError(
            f"{table.name}: labels are partly names, in {at(names)}, and partly numbers, in "
            f"{at(numbers)}; use one kind"
        )
    return labels


def _of_value(table: Table, row: int, cell: object) -> Label:
    if isinstance(cell, str):
        return composed(cell.strip())
    try:
        number = operator.index(cell)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if isinstance(cell, bool) or not 0 <= number <= LARGEST_LABEL:
        raise DatasetError(
            f"{table.name}: row {row} has the label {cell!r}; labels are names, or whole numbers "
            f"from 0 to {LARGEST_LABEL}"
        )
    return number
