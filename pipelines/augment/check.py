"""What blocks assume of the crops that they get: refused where a source gives others."""

from __future__ import annotations

import numpy as np
from nvidia.dali import Pipeline, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import do_not_convert

from pydmed_dali.dali.crop_shape import crop_shape
from pydmed_dali.errors import OptionError, SourceError
from pydmed_dali.source.pipeline_binding import source_of


@do_not_convert
def require_image(image: DataNode, block: str) -> None:
    """Raise `OptionError` where `image` is known to be a crop of a volume."""
    shape = crop_shape(image)
    if shape is not None and shape.depth is not None:
        raise OptionError(
            f"{block} is for images, and the source's crop_depth={shape.depth.crop} makes volumes; "
            "pydmed_dali.pipelines.volumes shows what is done with these"
        )


@do_not_convert
def require_rgb8(image: DataNode, block: str) -> None:
    """Raise `OptionError` where `image` is known to be of other pixels than 3 x uint8."""
    require_image(image, block)
    shape = crop_shape(image)
    if shape is not None and shape.pixel is not None and not shape.pixel.is_rgb8:
        raise OptionError(
            f"{block} is for colours, 3 x uint8, and the source's loader delivers {shape.pixel}; "
            "leave it out, or convert the crops before it"
        )


@do_not_convert
def require_bytes(image: DataNode, block: str) -> None:
    """Raise `OptionError` where `image` is known to have other values than uint8."""
    shape = crop_shape(image)
    if shape is not None and shape.pixel is not None and shape.pixel.dtype != "uint8":
        raise OptionError(
            f"{block} counts in grey values of 0 to 255, and the source's loader delivers "
            f"{shape.pixel}; say what fits these, or convert the crops before it"
        )


@do_not_convert
def require_square(image: DataNode, block: str) -> None:
    """Raise `OptionError` where `image` is known not to be square."""
    require_image(image, block)
    shape = crop_shape(image)
    if shape is not None and shape.size.width != shape.size.height:
        raise OptionError(
            f"{block} needs square crops, since it makes quarter turns, and the source has "
            f"crop_size={shape.size}; give it one number as crop_size, or flip without turning"
        )


@do_not_convert
def require_side(image: DataNode, side: int, block: str) -> DataNode | None:
    """Raise `OptionError` where `image` is known not to be a square of `side` pixels.

    Args:
        image: (height, width, channels).
        side: in pixels of the crop.
        block: who asks, for the message.

    Returns:
        None where the image is known to fit. Else a node on the CPU, float32 0, that must be part
        of the result: as it is computed, DALI ends the run for an image of another size.
    """
    require_image(image, block)
    shape = crop_shape(image)
    if shape is None:
        found = image.shape(dtype=types.INT32)
        size_differs = (found[0] != side) | (found[1] != side)
        zero: DataNode = types.Constant(np.zeros(1, np.float32), device="cpu")
        return zero[size_differs * side]
    if (shape.size.width, shape.size.height) != (side, side):
        raise OptionError(
            f"{block} was told crop_size={side}, and the source has crop_size={shape.size}: what "
            f"lies beyond the crop would be made up; make the source with crop_size={side}"
        )
    return None


@do_not_convert
def require_stain(method: str) -> None:
    """Raise `OptionError` where the pipeline's source finds out other statistics than these."""
    pipeline = Pipeline.current()
    try:
        found = None if pipeline is None else source_of(pipeline).options.stain_statistics
    except SourceError:  # a pipeline of somebody else's nodes
        return
    if found is not None and found != method:
        raise OptionError(
            f"{method} needs statistics of its own kind, and the source has "
            f"stain_statistics={found!r}; make it with stain_statistics={method!r}"
        )
