"""What is known of an image while its pipeline is defined: that it has the shape of a crop."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nvidia.dali import Pipeline
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import do_not_convert

from pydmed_dali.geometry import Size
from pydmed_dali.plan.depth import Depth
from pydmed_dali.slide.pixel_format import PixelFormat

_SHAPES = "_pydmed_dali_crop_shapes"  # of the pipeline: a shape by the name of a source's node
_KEEP_PIXELS = {
    "Brightness",
    "BrightnessContrast",
    "ColorTwist",
    "Contrast",
    "Erase",
    "Flip",
    "GaussianBlur",
    "Hsv",
    "Hue",
    "JpegCompressionDistortion",
    "Saturation",
    "_conditional__Split",
    "noise__Gaussian",
    "noise__SaltAndPepper",
    "noise__Shot",
}
"""Operators whose result is as large as their first input, of as many channels of its type."""
_KEEP_SIZE = {"Cast", "CoordTransform", "LookupTable", "Reinterpret"}
"""Operators whose result is as large as their first input."""


@dataclass(frozen=True, slots=True)
class CropShape:
    """The shape of an image that comes from a source."""

    size: Size
    """Width and height in pixels."""
    depth: Depth | None
    """The slices of a volume's crop; None for a slide's."""
    pixel: PixelFormat | None
    """Channels and type; None where an operator may have changed them."""


def note_shape(image: DataNode, shape: CropShape) -> None:
    """Have `crop_shape` know a node of the pipeline that is being defined."""
    pipeline = Pipeline.current()
    setattr(pipeline, _SHAPES, {**getattr(pipeline, _SHAPES, {}), image.name: shape})


@do_not_convert
def crop_shape(image: DataNode) -> CropShape | None:
    """Find the shape of an image by following it back to its source's crops.

    Args:
        image: a node of the pipeline that is being defined.

    Returns:
        The shape; None where the image is of no source, or came through an operator that may
        change its size.
    """
    return _followed(image, getattr(Pipeline.current(), _SHAPES, {}))


def _followed(node: DataNode, known: dict[str, CropShape]) -> CropShape | None:
    if node.name in known:
        return known[node.name]
    # What a node comes from is told by DALI in no public way.
    operator = getattr(getattr(node.source, "_op", None), "schema", None)
    inputs = getattr(node.source, "inputs", None)
    if operator is None or not inputs:
        return None
    name = str(operator.Name())
    shape = _followed(inputs[0], known)
    if shape is None or name in _KEEP_PIXELS:
        return shape
    if name in _KEEP_SIZE:
        return replace(shape, pixel=None)
    if name == "Transpose" and shape.size.width == shape.size.height:
        return shape
    if name == "_conditional__Merge" and shape == _followed(inputs[1], known):
        return shape
    return None
