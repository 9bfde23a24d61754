"""The loader of NIfTI volumes."""

from __future__ import annotations

from pathlib import Path

from pydmed_dali.loader.big_chunk_loader import BigChunkLoader
from pydmed_dali.loader.nifti_volume import NiftiVolume
from pydmed_dali.ring.pixel_format import PixelFormat
from pydmed_dali.slide.protocol import Slide

_ONE_FLOAT = PixelFormat(1, "float32")


class NiftiLoader(BigChunkLoader):
    """Opens NIfTI files (.nii, .nii.gz), for a source with `crop_depth`; needs the extra `volumes`.

    Voxels come as `pixel_format` has them: float32 with the header's scale applied, by default, or
    a type that holds the stored numbers as they are. A fourth axis is the channels'. Crops are
    (depth, height, width, channels): z, y and x are the file's third, second and first axis.
    """

    def __init__(self, pixel_format: PixelFormat = _ONE_FLOAT) -> None:
        self.pixel_format = pixel_format

    def open_slide(self, path: Path) -> Slide:
        """See `BigChunkLoader.open_slide`."""
        return NiftiVolume(path, self.pixel_format)
