"""The recipe for timm: some steps of a small network, where timm can be imported."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pydmed_dali import Size
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide
from tests.with_timm import import_timm


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_network_of_timms_is_trained(tmp_path: Path, bfloat16: bool) -> None:
    import_timm()
    from examples import train_timm

    for tissue in ("fat", "tumor"):
        (tmp_path / tissue).mkdir()
        write_tissue_slide(
            tmp_path / tissue / f"{tissue}.svs", Size(640, 640), tissue=tissue, seed=1
        )
    losses = train_timm.train(
        tmp_path,
        "test_resnet",
        steps=12,
        bfloat16=bfloat16,
        chunk_size=256,
        crop_size=64,
        crops_per_chunk=16,
    )
    assert len(losses) == 12 and all(map(math.isfinite, losses))
