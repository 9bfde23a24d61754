"""The benchmarks of a GPU run, small, on the CPU: so that a card's short time is not lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.resnet import ResNet18, ResNet50

CHECKOUT = Path(__file__).parents[2]
SMALL = ["--device", "cpu", "--chunk", "256", "--crop", "64", "--workers", "1", "--slide", "512"]
CROP = [*SMALL, "--batch", "4", "8", "--resident", "2", "4", "--crops-per-chunk", "16"]
SHORT = ["--seconds", "0.1", "--copy-bytes", "100000"]
TRAIN = [*SMALL, "--batch", "4", "--resident", "2", "--steps", "2", "--warm-up", "1"]

RUNS = {
    "benchmarks.gpu_crop --part residency": (["host | 4 | 4", "host | 8 | 4", "host | 8 | 2"]),
    "benchmarks.gpu_crop --part limits": (["| 4 | 4 |", "| 8 | 2 |", "GB/s"]),
    "benchmarks.gpu_crop --part loaders": (["OpenSlide, 1 workers", "cut beforehand", "16 crops"]),
    "benchmarks.gpu_train": (["one batch on the card", "pydmed-dali, host"]),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_benchmark_prints_its_table(name: str) -> None:
    options = TRAIN if "train" in name else [*CROP, *SHORT]
    done = subprocess.run(
        [sys.executable, "-m", *name.split(), *options],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert f"command: python -m {name.split()[0]}" in done.stdout
    assert "Error" not in done.stdout
    for words in RUNS[name]:
        assert words in done.stdout


@pytest.mark.parametrize(("kind", "published"), [(ResNet18, 11_689_512), (ResNet50, 25_557_032)])
def test_a_resnet_has_as_many_parameters_as_the_published_one(
    kind: type[ResNet18] | type[ResNet50], published: int
) -> None:
    assert sum(parameter.numel() for parameter in kind().parameters()) == published
