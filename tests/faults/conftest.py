"""Fixtures of the fault tests."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def slow_to_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """DALI computes for some time before it cuts a batch, so that workers are always ahead of it,
    whatever else the machine has to do.
    """
    from nvidia.dali import fn, types  # only where it is used: most fault tests need no DALI here
    from nvidia.dali.data_node import DataNode

    paste = fn.multi_paste

    def paste_late(pool: DataNode, in_ids: DataNode, **options: Any) -> DataNode:
        nothing: Any = fn.reductions.max(fn.random.normal(shape=[60_000])) * 0.0
        late: DataNode = paste(pool, in_ids=in_ids + fn.cast(nothing, dtype=types.INT32), **options)
        return late

    monkeypatch.setattr(fn, "multi_paste", paste_late)
