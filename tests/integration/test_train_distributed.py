"""The recipe for several processes: two real ranks by torchrun, over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from pydmed_dali import Size
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide

CHECKOUT = Path(__file__).parents[2]
TISSUES = ("fat", "gland", "tumor")
EPOCHS = 2
SLIDES = 3  # of each tissue, so the epoch's nine visits are no multiple of the ranks

BATCHES = 9
"""Of an epoch: 9 visits x 32 crops, of two ranks, in batches of 16."""
SAVE_EVERY = 4
SECONDS = 120.0

Steps = dict[tuple[int, int], dict[str, Any]]
"""What each rank says of each step, by (rank, step)."""


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for tissue in TISSUES:
        (folder / tissue).mkdir()
        for seed in range(SLIDES):
            path = folder / tissue / f"{tissue}-{seed}.svs"
            write_tissue_slide(path, Size(640, 640), tissue=tissue, seed=seed)
    return folder


def start(slides: Path, run: Path, epochs: int) -> subprocess.Popen[str]:
    """Two ranks."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", CHECKOUT / "examples" / "train_distributed.py"),
            *(slides, run, "--epochs", str(epochs), "--save-every", str(SAVE_EVERY)),
        ],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def train(slides: Path, run: Path, epochs: int) -> Steps:
    """Two ranks that run to the end, within a deadline."""
    program = start(slides, run, epochs)
    try:
        _, errors = program.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        kill(program)
        raise
    assert program.returncode == 0, errors
    return logged(run)


def kill(program: subprocess.Popen[str]) -> None:
    """SIGKILL to torchrun and all below it: the ranks lead sessions of their own."""
    torchrun = psutil.Process(program.pid)
    torchrun.suspend()  # so that it starts none anew
    family = [torchrun, *torchrun.children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    program.communicate()
    psutil.wait_procs(family, timeout=SECONDS)


def logged(run: Path) -> Steps:
    """The steps in the logs; of one that was done twice, the later."""
    steps = {}
    for rank in range(2):
        for line in (run / f"rank-{rank}.jsonl").read_text().splitlines():
            report = json.loads(line)
            steps[rank, report.pop("step")] = report
    return steps


@pytest.fixture(scope="module")
def whole(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    return train(slides, tmp_path_factory.mktemp("whole"), EPOCHS)


def test_ranks_end_each_epoch_together(whole: Steps) -> None:
    steps = range(1, EPOCHS * BATCHES + 1)
    assert sorted(whole) == [(rank, step) for rank in range(2) for step in steps]


def test_ranks_read_disjoint_chunks_and_get_their_share_of_every_label(whole: Steps) -> None:
    labels: list[dict[int, int]] = [{}, {}]
    for (rank, _), report in whole.items():
        labels[rank] |= dict(zip(report["chunks"], report["labels"], strict=True))
    assert not set(labels[0]) & set(labels[1])
    visits = len(TISSUES) * SLIDES
    first_pass = [[seen[c] for c in sorted(seen) if c < visits] for seen in labels]
    assert sum(map(len, first_pass)) == visits, "every patient was visited, by one rank"
    for label in range(len(TISSUES)):
        shares = [seen.count(label) for seen in first_pass]
        assert sorted(shares) == [SLIDES // 2, SLIDES - SLIDES // 2]


def test_a_run_with_more_epochs_goes_on_exactly(whole: Steps, slides: Path, tmp_path: Path) -> None:
    assert len(train(slides, tmp_path, 1)) == 2 * BATCHES
    assert train(slides, tmp_path, EPOCHS) == whole


def test_a_run_that_was_killed_within_an_epoch_goes_on_exactly(
    whole: Steps, slides: Path, tmp_path: Path
) -> None:
    program = start(slides, tmp_path, EPOCHS)
    until = time.monotonic() + SECONDS
    while not (tmp_path / "latest").exists():
        assert program.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    kill(program)
    saved = int((tmp_path / "latest").read_text())
    if saved < EPOCHS * BATCHES:
        assert saved % BATCHES, "within an epoch"
    for log in tmp_path.glob("*.jsonl"):
        log.unlink()
    rest = train(slides, tmp_path, EPOCHS)
    assert rest == {key: report for key, report in whole.items() if key[1] > saved}
