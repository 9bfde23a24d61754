"""The benchmarks run, with settings far too small to measure anything."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from pydmed_dali import Size
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide

ROOT = Path(__file__).parents[2]
SMALL = [
    "--chunk",
    "1024",
    "--resident",
    "2",
    "--batch",
    "16",
    "--seconds",
    "0.3",
    "--warm-up",
    "0",
    "--workers",
    "1",
]


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    for number in range(2):
        write_tissue_slide(folder / f"{number}.svs", Size(2048, 2048), tissue="gland", seed=number)
    return folder


def run(module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("tissue", [False, True])
def test_the_suite(slides: Path, tmp_path: Path, tissue: bool) -> None:
    peers = ["openslide_reads", "jpeg_tiles_dali", "torch_window", "this_project"]
    out = run(
        "suite", "--slides", str(slides), *SMALL, "--rounds", "1", "--reuse", "16",
        "--window-reuse", "16", "--peers", *peers, "--json", str(tmp_path / "r.json"),
        *["--tissue"] * tissue,
    )  # fmt: skip
    rounds = json.loads((tmp_path / "r.json").read_text())["rounds"]
    assert len(rounds) == 4, out
    assert all(r["crops_per_second"] > 0 for each in rounds.values() for r in each)


def test_scale_draws_its_plot(tmp_path: Path) -> None:
    point = ["--base", "2", "1024", "1", "--counts", "2", "--sides", "1024", "--worker-counts", "1"]
    plot = tmp_path / "scale.png"
    small = [
        "--chunk=512",
        "--resident=2",
        "--batch=16",
        "--seconds=0.3",
        "--warm-up=0",
        "--rounds=1",
    ]
    assert "| 2 | 1,024 | 1 |" in run("scale", *point, *small, "--plot", str(plot))
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_filling_a_chunk(slides: Path) -> None:
    out = run("chunk_fill", "--slides", str(slides), "--chunks", "1", "--rounds", "1")
    assert len(re.findall(r"\| \d+% \|", out)) == 4


def test_augmentation(slides: Path) -> None:
    small = ["--batch-size", "8", "--rounds", "1", "--batches", "1"]
    out = run("augmentation", "--slides", str(slides), *small)
    assert len(re.findall(r"\| [\d,]+ \| [\d,]+-[\d,]+ \| [\d.]+x \|", out)) == 15


def test_inference_runs_every_tile_of_every_peer(slides: Path) -> None:
    """Two slides of 2048x2048 have 100 tiles of 224 each."""
    options = ["--slides", str(slides), "--rounds", "1", *SMALL]
    out = run("inference", *options, "--peers", "openslide", "tiatoolbox", "ours")
    has = find_spec("tiatoolbox") is not None
    assert counts_of_tiles(out) == ["200"] * (3 if has else 2), out
    assert ("| TIAToolbox, its engine's dataset | not run: failed: ModuleNotFound" in out) != has


def test_inference_with_overlap(slides: Path) -> None:
    """18 tiles of 224, 112 pixels apart, cover 2048 pixels."""
    options = ["--slides", str(slides), "--rounds", "1", *SMALL, "--stride", "112"]
    out = run("inference", *options, "--peers", "openslide", "ours")
    assert counts_of_tiles(out) == [str(2 * 18 * 18)] * 2, out
    assert "target 10x" not in out  # that is for tiles without overlap


def counts_of_tiles(out: str) -> list[str]:
    """The second column of the table."""
    return re.findall(r"^\| [^|]+ \| (\d+) \| [\d,]+ \|", out, re.MULTILINE)
