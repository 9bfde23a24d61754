"""A number for each crop."""

from __future__ import annotations

from nvidia.dali import fn
from nvidia.dali.data_node import DataNode

Range = tuple[float, float]
"""(lowest, highest); twice the same is that number for every crop."""


def uniform(limits: Range) -> DataNode | float:
    """A number within `limits` for each crop, each as likely."""
    low, high = limits
    # DALI refuses an empty range.
    return low if low == high else fn.random.uniform(range=[low, high])
