"""The loader of TIFF files with other pixels than 8-bit RGB."""

from __future__ import annotations

from pathlib import Path

from pydmed_dali.slide.channel_tiff import ChannelTiff
from pydmed_dali.slide.pixel_format import PixelFormat
from pydmed_dali.slide.slide import Slide
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader


class TiffLoader(BigChunkLoader):
    """Opens TIFF and OME-TIFF files of any channels and of 8, 16 or 32 bits: see `ChannelTiff`.

    All files of a source have the same `pixel_format`; others are skipped and reported.
    """

    def __init__(self, pixel_format: PixelFormat) -> None:
        self.pixel_format = pixel_format

    def open_slide(self, path: Path) -> Slide:
        """See `BigChunkLoader.open_slide`."""
        return ChannelTiff(path, self.pixel_format)
