"""The recipe for several processes: two real ranks by torchrun, over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pydmed_dali import Size
from pydmed_dali.slide.tissue_slides import write_tissue_slide

CHECKOUT = Path(__file__).parents[2]
TISSUES = ("fat", "gland", "tumor")
EPOCHS = 2
SLIDES = 3  # of each tissue, so the epoch's nine visits are no multiple of the ranks

Reports = dict[tuple[int, int], dict[str, Any]]
"""What each rank says of each epoch, by (rank, epoch)."""


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for tissue in TISSUES:
        (folder / tissue).mkdir()
        for seed in range(SLIDES):
            path = folder / tissue / f"{tissue}-{seed}.svs"
            write_tissue_slide(path, Size(640, 640), tissue=tissue, seed=seed)
    return folder


def train(slides: Path, run: Path, epochs: int) -> Reports:
    """Two ranks that run to the end, within a deadline."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", CHECKOUT / "examples" / "train_distributed.py"),
            *(slides, run, "--epochs", str(epochs)),
        ],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    logs = {rank: (run / f"rank-{rank}.jsonl").read_text().splitlines() for rank in range(2)}
    reports = [(rank, json.loads(line)) for rank, lines in logs.items() for line in lines]
    return {(rank, report.pop("epoch")): report for rank, report in reports}


@pytest.fixture(scope="module")
def whole(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    return train(slides, tmp_path_factory.mktemp("whole"), EPOCHS)


def test_ranks_end_each_epoch_together(whole: Reports) -> None:
    assert sorted(whole) == [(rank, epoch) for rank in range(2) for epoch in range(EPOCHS)]
    # 9 visits x 32 crops, of two ranks, in batches of 16
    assert {len(report["losses"]) for report in whole.values()} == {9}


def test_ranks_read_disjoint_chunks_and_get_their_share_of_every_label(whole: Reports) -> None:
    labels: list[dict[int, int]] = [{}, {}]
    for (rank, _), report in whole.items():
        labels[rank] |= {int(chunk): label for chunk, label in report["labels_of_chunks"].items()}
    assert not set(labels[0]) & set(labels[1])
    visits = len(TISSUES) * SLIDES
    first_pass = [[seen[c] for c in sorted(seen) if c < visits] for seen in labels]
    assert sum(map(len, first_pass)) == visits, "every patient was visited, by one rank"
    for label in range(len(TISSUES)):
        shares = [seen.count(label) for seen in first_pass]
        assert sorted(shares) == [SLIDES // 2, SLIDES - SLIDES // 2]


def test_a_resumed_run_goes_on_exactly(whole: Reports, slides: Path, tmp_path: Path) -> None:
    assert len(train(slides, tmp_path, 1)) == 2
    assert train(slides, tmp_path, EPOCHS) == whole
