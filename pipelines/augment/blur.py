"""Blur, as a scanner that is a little out of focus makes it."""

from __future__ import annotations

from nvidia.dali import fn
from nvidia.dali.data_node import DataNode

from pydmed_dali.pipelines.augment.draw import Range, uniform


def blur(image: DataNode, sigma: Range = (0.3, 1.5)) -> DataNode:
    """A Gaussian of standard deviation `sigma`, in pixels of the crop; edges are mirrored."""
    return fn.gaussian_blur(image, sigma=uniform(sigma))
