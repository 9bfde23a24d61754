"""Every notebook runs from clean, and shows as much as when it was kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest

from notebooks.execute import execute

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
LARGEST = 700_000
"""Bytes of a notebook with its outputs."""

SLIDES = Path(
    os.environ.get("PYDMED_DALI_TEST_SLIDES", Path(__file__).parents[3] / "shared/slides")
)
"""Where there are no real slides, notebooks make their own."""


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> set[str]:
    """What a cell shows: text, pictures."""
    return {kind for output in cell.outputs for kind in output.get("data", {"text/plain": ""})}


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each of its cells shows text and pictures where it does in the file."""
    if SLIDES.is_dir():
        monkeypatch.setenv("PYDMED_DALI_TEST_SLIDES", str(SLIDES))
    kept = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    for found, cell in zip(code_cells(execute(path, tmp_path)), code_cells(kept), strict=True):
        assert kinds(found) == kinds(cell), cell.source
        assert all(output.get("name") != "stderr" for output in found.outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_with_small_outputs(path: Path) -> None:
    """All of one run from clean, with no word of the machine that it ran on."""
    cells = code_cells(nbformat.read(path, as_version=4))  # type: ignore[no-untyped-call]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any("image/png" in kinds(cell) for cell in cells)
    text = path.read_text()
    assert len(text) < LARGEST
    assert not any(place in text for place in ("/work", "/tmp/", "/home/", "/root", "stderr"))
