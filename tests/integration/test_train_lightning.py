"""The recipe for PyTorch Lightning: interrupted anywhere and resumed, it is the same run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from pydmed_dali import Size
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide

lightning = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")

from examples import train_lightning  # noqa: E402

# Lightning's own: a class of torch's that it asks for, and that a run is resumed in its folder.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]

TISSUES = ("fat", "gland", "tumor")
EPOCHS, STEPS = 2, 12  # 6 patients x 32 crops in batches of 16

Record = dict[int, tuple[str, str]]
"""By step: digests of the batch's images, and of its rows of `info`."""


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for tissue in TISSUES:
        (folder / tissue).mkdir()
        for seed in range(3):
            path = folder / tissue / f"{tissue}-{seed}.svs"
            write_tissue_slide(path, Size(640, 640), tissue=tissue, seed=seed)
    return folder


class InterruptedRunError(Exception):
    """What ends a run."""


class Recorder(lightning.Callback):  # type: ignore[name-defined, misc]
    """Notes every batch; raises before a step, if it is asked to."""

    def __init__(self, ends_before: int | None = None) -> None:
        self.ends_before = ends_before
        self.record: Record = {}

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, number: int) -> None:
        if trainer.global_step == self.ends_before:
            raise InterruptedRunError
        image, info = (digest(batch[name]) for name in ("image", "info"))
        self.record[trainer.global_step] = (image, info)


def digest(tensor: torch.Tensor) -> str:
    return hashlib.blake2b(tensor.numpy().tobytes(), digest_size=16).hexdigest()


def train(slides: Path, run: Path, ends_before: int | None = None) -> tuple[Record, Any]:
    recorder = Recorder(ends_before)
    trainer = train_lightning.train(
        slides,
        run,
        steps_between=1,
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=[recorder],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    return recorder.record, trainer


@pytest.fixture(scope="module")
def whole(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Any]:
    """A run without an interruption."""
    return train(slides, tmp_path_factory.mktemp("whole"))


def test_epochs_have_their_length_and_differ(whole: tuple[Record, Any]) -> None:
    record, trainer = whole
    assert list(record) == list(range(EPOCHS * STEPS))
    assert len(set(record.values())) == EPOCHS * STEPS
    assert 0 <= trainer.callback_metrics["right"] <= 1, "validation was run"


@pytest.mark.parametrize("step", [5, STEPS])
def test_a_run_goes_on_from_a_checkpoint_as_if_it_had_never_ended(
    whole: tuple[Record, Any], slides: Path, tmp_path: Path, step: int
) -> None:
    """Within an epoch, and behind its last batch."""
    expected, complete = whole
    with pytest.raises(InterruptedRunError):
        train(slides, tmp_path, ends_before=step)
    assert (tmp_path / "last.ckpt").exists()
    resumed, trainer = train(slides, tmp_path)
    assert resumed == {number: seen for number, seen in expected.items() if number >= step}
    assert trainer.current_epoch == complete.current_epoch == EPOCHS
    for mine, theirs in zip(trainer.model.parameters(), complete.model.parameters(), strict=True):
        assert torch.equal(mine, theirs), "the weights are those of the whole run"
