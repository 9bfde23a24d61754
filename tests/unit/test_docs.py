"""The code blocks of the documentation run as they stand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("datasets.md",)


def blocks(page: str) -> list[str]:
    found: list[str] = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with two slides of each of 20 patients, of which the names are read."""
    folder = tmp_path_factory.mktemp("docs")
    rows = ["slide,patient,label,scanner"]
    for number in range(20):
        tissue = "benign" if number < 10 else "tumor"
        for block, scanner in (("a", "Aperio"), ("b", "Hamamatsu")):
            path = Path("slides") / tissue / f"P{number}-{block}.svs"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).touch()
            rows.append(f"{path},P{number},{tissue},{scanner}")
    (folder / "slides.csv").write_text("\n".join(rows))
    (folder / "annotations").mkdir()
    text = json.dumps([box("Tumor", 100, 100, 1300, 700), box("Necrosis", 850, 850, 100, 100)])
    (folder / "annotations" / "P10-a.geojson").write_text(text)
    return folder


def box(name: str, x: int, y: int, width: int, height: int) -> dict[str, object]:
    """An annotation as QuPath writes it."""
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [corners]},
        "properties": {"objectType": "annotation", "classification": {"name": name}},
    }


@pytest.mark.parametrize("block", [block for page in PAGES for block in blocks(page)])
def test_a_code_block_runs(block: str, folder: Path) -> None:
    (folder / "block.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "block.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
