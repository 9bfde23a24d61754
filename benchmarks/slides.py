"""Slides to measure on: a folder that is named, or large ones that are written for the occasion."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pydmed_dali import Dataset, Patient, Record, Size
from pydmed_dali.synthetic.tissue_slides import TISSUES, write_tissue_slide

ROOT = Path(__file__).resolve().parents[1]
_STEP = 1024  # mosaics consist of blocks of this side


@contextmanager
def slides_in(named: Path | None, count: int, side: int) -> Iterator[Path]:
    """The folder `named`, or a temporary one with `count` new slides of `side` pixels."""
    if named is not None:
        yield named
        return
    with tempfile.TemporaryDirectory(prefix="pydmed-dali-slides-") as folder:
        write_slides(Path(folder), count, side)
        yield Path(folder)


def write_slides(folder: Path, count: int, side: int) -> list[Path]:
    """Write slides and give their paths: mosaics of real tissue where the script for them is found.

    It lies with the real slides that the tests use, in the folder that PYDMED_DALI_TEST_SLIDES
    names or in ../shared/slides. Without it, or for a side that is no multiple of 1024, the slides
    are the project's synthetic ones.
    """
    script = mosaic_script()
    if script and side % _STEP == 0:
        options = [str(folder), "--count", str(count), "--size", str(side)]
        command = [sys.executable, str(script), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    else:
        for number in range(count):
            path, tissue = (
                folder / f"synthetic-{side}-{number:02d}.svs",
                TISSUES[number % len(TISSUES)],
            )
            write_tissue_slide(path, Size(side, side), tissue=tissue, seed=number)
    return sorted(folder.iterdir())


def mosaic_script() -> Path | None:
    """The script that writes mosaics, if this machine has it."""
    named = os.environ.get("PYDMED_DALI_TEST_SLIDES")
    folder = Path(named) if named else ROOT.parent / "shared" / "slides"
    script = folder / "mosaic.py"
    return script if script.is_file() else None


def link_slides(files: Sequence[Path], folder: Path, count: int) -> None:
    """Fill `folder` with `count` slides that are symbolic links to these files, in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        file = files[number % len(files)]
        (folder / f"slide-{number:04d}{file.suffix}").symlink_to(file.resolve())


def dataset_of(folder: Path) -> Dataset:
    """Every file of `folder` as a slide of a patient of its own, links to one file too.

    `Dataset.from_folder` takes a file of several names once.
    """
    names = sorted(path.name for path in folder.iterdir())
    return Dataset(tuple(Patient(name, (Record(folder, PurePosixPath(name)),)) for name in names))
