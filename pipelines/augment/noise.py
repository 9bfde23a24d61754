"""Noise, as a camera adds it."""

from __future__ import annotations

from nvidia.dali import fn
from nvidia.dali.data_node import DataNode

from pydmed_dali.pipelines.augment.draw import Range, uniform


def noise(image: DataNode, deviation: Range = (0.0, 8.0)) -> DataNode:
    """Gaussian noise of standard deviation `deviation`, in grey values; each value by itself.

    The dearest block on the CPU: it draws 150,528 numbers for a crop of 224x224.
    """
    return fn.noise.gaussian(image, stddev=uniform(deviation))
