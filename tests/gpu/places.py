"""Where rings lie and crops are cut, as test parameters; a GPU's skip where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from pydmed_dali import BigChunkSource
from tests.support import Batch

CPU: dict[str, Any] = {"device": "cpu", "residency": "host"}
HOST: dict[str, Any] = {"device": "gpu", "residency": "host"}
DEVICE: dict[str, Any] = {"device": "gpu", "residency": "device"}
MAPPED: dict[str, Any] = {"device": "gpu", "residency": "mapped"}

GPU_PLACES = [
    pytest.param(HOST, marks=pytest.mark.gpu, id="host"),
    pytest.param(DEVICE, marks=pytest.mark.gpu, id="device"),
    pytest.param(MAPPED, marks=pytest.mark.gpu, id="mapped"),
]
PLACES = [pytest.param(CPU, id="cpu"), *GPU_PLACES]
DEVICES = [pytest.param("cpu", id="cpu"), pytest.param("gpu", marks=pytest.mark.gpu, id="gpu")]


def on_cpu(batch: Batch) -> Batch:
    """A batch as the tests look at it; checks that it came on the device it should."""
    assert batch["info"].device.type == "cpu"
    return {name: tensor.cpu() for name, tensor in batch.items()}


def assert_place(source: BigChunkSource, batch: Batch) -> None:
    """Image and label are on the source's device."""
    kind = "cuda" if source.device == "gpu" else "cpu"
    assert (batch["image"].device.type, batch["label"].device.type) == (kind, kind)
