"""Runs every notebook from clean, each in an empty folder, and keeps what it shows.

    make notebooks
    .venv/bin/python -m notebooks.execute notebooks/first_batch.ipynb      # only this one

Pictures are kept in 256 colours, so that the files stay small. With `PYDMED_DALI_TEST_SLIDES` set,
the notebooks that ask for it show the real slides that lie there.
"""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent
PNG = "image/png"


def execute(path: Path, folder: str | Path, seconds: int = 240) -> Any:
    """The notebook as it is after all its cells ran in `folder`, by `seconds` a cell at most.

    Raises nbclient's `CellExecutionError` where a cell does.
    """
    notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    for cell in notebook.cells:
        cell.pop("outputs", None), cell.pop("execution_count", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(
        notebook,
        timeout=seconds,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    ).execute()
    return notebook


def keep(path: Path) -> None:
    """Execute a notebook, and write it with its outputs."""
    with TemporaryDirectory() as folder:
        notebook = execute(path, folder)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if PNG in output.get("data", ()):
                output.data[PNG] = with_few_colours(output.data[PNG])
    # The kernel's own versions are of no use to a reader, and differ from machine to machine.
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


def with_few_colours(picture: str) -> str:
    """A PNG file of at most 256 colours, both in base64."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").quantize(256)
    small = io.BytesIO()
    image.save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def main(paths: Sequence[str]) -> None:
    """Keep those, or all."""
    for path in [Path(each) for each in paths] or sorted(FOLDER.glob("*.ipynb")):
        print(path.name, flush=True)
        keep(path)


if __name__ == "__main__":
    main(sys.argv[1:])
