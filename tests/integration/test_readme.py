"""The README's code blocks run as they stand, and its commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pydmed_dali import Size
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with slides/ in it."""
    folder = tmp_path_factory.mktemp("readme")
    for tissue in ("gland", "tumor"):
        (folder / "slides" / tissue).mkdir(parents=True)
        path = folder / "slides" / tissue / "1.svs"
        write_tissue_slide(path, Size(2048, 2048), tissue=tissue, seed=1)
    return folder


@pytest.mark.parametrize("block", blocks("python"))
def test_a_code_block_runs(block: str, folder: Path) -> None:
    (folder / "block.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "block.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_first_block_is_short() -> None:
    lines = [line for line in blocks("python")[0].splitlines() if line.strip()]
    assert len(lines) <= 12


def test_its_commands_exist() -> None:
    shell = "\n".join(blocks("bash"))
    targets = re.findall(r"^make (\w+)", shell, re.MULTILINE)
    commands = re.findall(r"^pydmed-dali (\w+)", shell, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets and all(f"\n{target}:" in makefile for target in targets)
    for command in commands:
        subprocess.run(
            [sys.executable, "-m", "pydmed_dali", command, "--help"],
            check=True,
            capture_output=True,
            timeout=600,
        )
