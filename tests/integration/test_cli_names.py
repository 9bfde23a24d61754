"""No name and no folder brings a traceback, or says anything to the terminal but itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pydmed_dali import Size
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide

CHECKOUT = Path(__file__).parents[2]
NAMES = [b"bad\xff.tif", b"new\nline.tif", b"red\x1b[31m.tif", b"cost $1 and \\frac.tif"]
SHOWN = [r"bad\xff.tif", r"new\nline.tif", r"red\x1b[31m.tif", "cost $1 and \\frac.tif"]
SMALL = ["--chunk-size", "128", "--crop-size", "64"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Slides of odd names, one of which is none, and a model beside them."""
    (tmp_path / "slides").mkdir()
    write_coordinate_slide(tmp_path / "made.tif", Size(300, 200), levels=1, mpp=0.5)
    for name in NAMES:
        target = os.fsencode(tmp_path / "slides") + b"/" + name
        Path(os.fsdecode(target)).write_bytes((tmp_path / "made.tif").read_bytes())
    broken = os.fsencode(tmp_path / "slides") + b"/broken\xfe\n.tif"
    Path(os.fsdecode(broken)).write_text("nonsense")
    (tmp_path / "means.py").write_text(
        "def means(tiles):\n    return tiles.double().mean(dim=(1, 2))\n"
    )
    return tmp_path


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a terminal that takes UTF-8 only, as most do."""
    done = subprocess.run(
        [sys.executable, "-m", "pydmed_dali", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONIOENCODING": "utf-8:strict"}
        | {"COLUMNS": "2000"},  # else lines are broken
        capture_output=True,
        timeout=200,
        check=False,
    )
    out, err = done.stdout.decode(), done.stderr.decode()  # both are UTF-8
    assert "Traceback" not in err, err
    assert "\x1b" not in out + err
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", "slides"),
        ("preview", "slides", "--out", "out", *SMALL),
        ("infer", "slides", "--model", "means:means", "--out", "out", "--column", "0"),
        ("demo", "--slides", "slides", "--out", "out", "--steps", "2", *SMALL),
    ],
)
def test_slides_of_any_name_are_read_and_shown(folder: Path, words: tuple[str, ...]) -> None:
    done = run(folder, *words)
    assert done.returncode == 0, done.stderr
    assert r"broken\xfe\n.tif" in done.stdout
    if words[0] in ("inspect", "preview"):
        assert all(name in done.stdout for name in SHOWN)
    if words[0] in ("preview", "infer"):
        pictures = list((folder / "out").glob("*.png"))
        assert len(pictures) == len(NAMES)


@pytest.mark.parametrize(
    "words", [("inspect", "slides"), ("preview", "slides"), ("plan", "slides")]
)
def test_a_folder_of_any_name_without_slides_is_told(folder: Path, words: tuple[str, ...]) -> None:
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/odd\xff\n\x1b"))
    odd.mkdir()
    done = run(folder, words[0], str(odd))
    assert done.returncode == 1
    assert r"odd\xff\n\x1b holds no slide" in done.stdout + done.stderr


@pytest.mark.parametrize("out", ["made.tif/deeper", "x" * 300])
@pytest.mark.parametrize(
    "words",
    [
        ("infer", "slides", "--model", "means:means", "--num-workers", "0"),
        ("preview", "slides", *SMALL),
        ("demo", "--slides", "slides", "--steps", "1", *SMALL),
    ],
)
def test_an_out_that_cannot_be_a_folder_is_told(
    folder: Path, words: tuple[str, ...], out: str
) -> None:
    done = run(folder, *words, "--out", out)
    assert done.returncode == 1
    assert "cannot be a folder" in done.stderr or "cannot hold results" in done.stderr


def test_inspect_goes_on_behind_a_folder_without_slides(folder: Path) -> None:
    (folder / "none").mkdir()
    done = run(folder, "inspect", "none", "made.tif", "x" * 300, "nothing")
    assert done.returncode == 1, "one that was named holds no slide"
    assert "none holds no slide" in done.stdout
    assert "300x200 pixels" in done.stdout, "the slide behind it is shown"
    assert "there is no such file" in done.stdout
    assert run(folder, "inspect", "made.tif", "nothing").returncode == 0, "some can be read"
