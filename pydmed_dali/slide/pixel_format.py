"""What a pixel of a BigChunk is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pydmed_dali.errors import OptionError

DTYPES = ("uint8", "int16", "uint16", "int32", "float32")
"""What can be cropped; DALI's `multi_paste` takes no other."""
MOST_CHANNELS = 40


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """Channels and type of the pixels that a loader delivers: 8-bit RGB unless it says otherwise.

    Raises `OptionError` for a type that cannot be cropped and for other than 1 to 40 channels.
    """

    channels: int = 3
    """Values of a pixel, one after another in memory."""
    dtype: str = "uint8"
    """Of each value, by numpy's name: one of `DTYPES`."""

    def __post_init__(self) -> None:
        whole = isinstance(self.channels, int) and not isinstance(self.channels, bool)
        if not whole or not 1 <= self.channels <= MOST_CHANNELS:
            raise OptionError(
                f"a pixel can have 1 to {MOST_CHANNELS} channels, not {self.channels!r}; more can "
                "be read as several sources"
            )
        if self.dtype not in DTYPES:
            raise OptionError(
                f"pixels can be of {', '.join(DTYPES)}, not {self.dtype!r}: convert them in the "
                "loader's extract_bigchunk"
            )

    @property
    def nbytes(self) -> int:
        """Bytes of a pixel."""
        return self.channels * np.dtype(self.dtype).itemsize

    @property
    def carried(self) -> str:
        """The type under which DALI crops the pixels: of `uint16` the same bits as `int16`."""
        return "int16" if self.dtype == "uint16" else self.dtype

    @property
    def is_rgb8(self) -> bool:
        """Whether pixels are what slides have: red, green and blue of 8 bits."""
        return (self.channels, self.dtype) == (3, "uint8")

    def __str__(self) -> str:
        return f"{self.channels} x {self.dtype}"


RGB8 = PixelFormat()
"""What slides have."""
