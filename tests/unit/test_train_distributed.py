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
    return train(slides, tmp_path_factory.mktemp("whole"), 3)


def test_ranks_end_each_epoch_together(whole: Reports) -> None:
    assert sorted(whole) == [(rank, epoch) for rank in range(2) for epoch in range(3)]
    # 9 visits x 32 crops, of two ranks, in batches of 16
    assert {len(report["losses"]) for report in whole.values()} == {9}


def test_ranks_read_disjoint_chunks_and_get_their_share_of_every_label(whole: Reports) -> None:
    chunks = [{c for e in range(3) for c in whole[rank, e]["chunks"]} for rank in range(2)]
    assert chunks[0] and not chunks[0] & chunks[1]
    for rank in range(2):
        shares = [
            sum(whole[rank, epoch]["labels"].get(str(label), 0) for epoch in range(3))
            for label in range(len(TISSUES))
        ]
        assert sum(shares) == 3 * 9 * 16
        # a visit more or less per label and pass, of 32 crops
        assert max(shares) - min(shares) <= 3 * 32


def test_a_resumed_run_goes_on_exactly(whole: Reports, slides: Path, tmp_path: Path) -> None:
    assert len(train(slides, tmp_path, 1)) == 2
    assert train(slides, tmp_path, 3) == whole
