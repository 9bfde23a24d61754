"""Brightness, contrast, hue and saturation, as scanners and their lamps differ."""

from __future__ import annotations

from nvidia.dali import fn
from nvidia.dali.data_node import DataNode

from pydmed_dali.pipelines.augment.check import require_rgb8
from pydmed_dali.pipelines.augment.draw import Range, uniform


def colour_jitter(
    image: DataNode,
    brightness: Range = (0.9, 1.1),
    contrast: Range = (0.9, 1.1),
    saturation: Range = (0.85, 1.15),
    hue: Range = (-8.0, 8.0),
) -> DataNode:
    """Factors of brightness, contrast (about grey 128) and saturation; hue turned by degrees.

    One matrix for all (`fn.color_twist`): hue and saturation in YIQ, then contrast, then
    brightness; clipped to 0..255 once at the end.
    """
    require_rgb8(image, "colour_jitter")
    return fn.color_twist(
        image,
        brightness=uniform(brightness),
        contrast=uniform(contrast),
        saturation=uniform(saturation),
        hue=uniform(hue),
    )
