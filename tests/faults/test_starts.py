"""Workers start from wherever a user's program comes from, and load no more than they need."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

from pydmed_dali import BigChunkSource, Dataset, TileSource, measure_tissue
from pydmed_dali.errors import OptionError
from pydmed_dali.machine import core_count
from tests.faults.programs import PREAMBLE, SECONDS, run
from tests.support import SMALL_RUN

USE = """
with make() as source:
    batches = list(loader_of(source))
print("batches", len(batches), tuple(batches[0]["image"].shape))
"""
EXPECTED = "batches 10 (8, 64, 64, 3)"


def test_a_script_without_a_main_guard(tmp_path: Path, coordinate_folder: Path) -> None:
    code, out, errors = run(tmp_path / "train.py", USE, coordinate_folder)
    assert (code, out.strip(), errors) == (0, EXPECTED, "")


def test_a_script_on_standard_input(coordinate_folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-", str(coordinate_folder)],
        input=PREAMBLE + USE,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, EXPECTED, "")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_notebook(coordinate_folder: Path, tmp_path: Path) -> None:
    """With a loader class that is defined in the notebook: it travels by cloudpickle."""
    cells = [
        f"import sys; sys.argv = ['notebook', {str(coordinate_folder)!r}]\n" + PREAMBLE,
        "from pydmed_dali import BigChunkLoader\n"
        "class Mine(BigChunkLoader):\n"
        "    def extract_bigchunk(self, slide, view, origin, out, parts):\n"
        "        out[:] = 77",
        "with make(loader=Mine()) as source:\n"
        "    batch = next(iter(loader_of(source)))\n"
        "print('value', batch['image'].unique().tolist())",
    ]
    v4: Any = nbformat.v4
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    assert notebook.cells[-1].outputs[0]["text"] == "value [77]\n"


def test_a_loader_class_of_the_users_script(tmp_path: Path, coordinate_folder: Path) -> None:
    body = """
from pydmed_dali import BigChunkLoader
class Mine(BigChunkLoader):
    def extract_bigchunk(self, slide, view, origin, out, parts):
        out[:] = 42
with make(loader=Mine()) as source:
    print(next(iter(loader_of(source)))["image"].unique().tolist())
"""
    code, out, errors = run(tmp_path / "train.py", body, coordinate_folder)
    assert (code, out.strip(), errors) == (0, "[42]", "")


def test_a_module_beside_the_script_that_bears_a_library_name(
    tmp_path: Path, coordinate_folder: Path
) -> None:
    """The folder a program is started in is not on its workers' import path."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "numpy.py").write_text("raise RuntimeError('the wrong numpy')")
    script = tmp_path / "elsewhere" / "train.py"
    script.write_text(PREAMBLE + USE)
    done = subprocess.run(
        [sys.executable, str(script), str(coordinate_folder)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, EXPECTED), done.stderr


def test_a_worker_imports_neither_dali_nor_torch_nor_what_most_runs_do_without() -> None:
    """Its start is mostly its imports; `shapely` is only for annotations."""
    program = (
        "import sys, pydmed_dali.worker.main\n"
        "heavy = {'torch', 'nvidia', 'cupy', 'matplotlib', 'shapely', 'pydmed_dali.dataset'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_crowd_of_workers_is_refused_before_any_starts(coordinates: Dataset) -> None:
    most = max(64, 4 * core_count())
    for make in (
        lambda: BigChunkSource(coordinates, **{**SMALL_RUN, "num_workers": most + 1}),
        lambda: TileSource(coordinates, num_workers=most + 1),
        lambda: measure_tissue(coordinates, num_workers=most + 1),
    ):
        with pytest.raises(OptionError, match=f"num_workers={most + 1} is too many.* {most} are"):
            make()
    assert not psutil.Process().children()


def test_many_workers_that_still_start_are_closed_as_one(coordinates: Dataset) -> None:
    """They hear nothing until all is imported, which takes a core a second for each."""
    source = BigChunkSource(coordinates, **{**SMALL_RUN, "num_workers": 24})
    begun = time.monotonic()
    source.close()
    assert time.monotonic() - begun < 4, "no worker was waited for"
    assert not psutil.Process().children()
