"""The loader of NIfTI volumes."""

from __future__ import annotations

from pathlib import Path

from pydmed_dali.errors import OptionError
from pydmed_dali.slide.nifti_volume import MOST_UNPACKED, NiftiVolume
from pydmed_dali.slide.pixel_format import PixelFormat
from pydmed_dali.slide.slide import Slide
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader

_ONE_FLOAT = PixelFormat(1, "float32")


class NiftiLoader(BigChunkLoader):
    """Opens NIfTI files (.nii, .nii.gz), for a source with `crop_depth`; needs the extra `volumes`.

    Voxels come as `pixel_format` has them: float32 with the header's scale applied, by default, or
    a type that holds the stored numbers as they are. A fourth axis is the channels'. Crops are
    (depth, height, width, channels): z, y and x are the file's third, second and first axis.
    """

    _max_unpacked_bytes = MOST_UNPACKED

    def __init__(
        self, pixel_format: PixelFormat = _ONE_FLOAT, *, max_unpacked_bytes: int = MOST_UNPACKED
    ) -> None:
        """Make a loader of volumes.

        Args:
            pixel_format: channels of a voxel, and the type of each value.
            max_unpacked_bytes: what a compressed file may unpack to. Each process keeps up to eight
                volumes in memory. Files that are larger by their header, and files that unpack to
                more than it tells, are refused.

        Raises:
            OptionError: `max_unpacked_bytes` is not positive.
        """
        if not max_unpacked_bytes > 0:
            raise OptionError(f"max_unpacked_bytes must be positive, not {max_unpacked_bytes!r}")
        self.pixel_format = pixel_format
        self._max_unpacked_bytes = max_unpacked_bytes

    def open_slide(self, path: Path) -> Slide:
        """See `BigChunkLoader.open_slide`."""
        return NiftiVolume(path, self.pixel_format, self._max_unpacked_bytes)
