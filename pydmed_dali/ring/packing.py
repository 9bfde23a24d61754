"""What a slot of the ring holds: a BigChunk, or only the crops that will be taken of it."""

from __future__ import annotations

from pydmed_dali.geometry import Size

_DENSE = 0.8  # of a chunk's pixels, and
_MOST = 1024  # crops: of more, all small, each takes longer to cut out. See docs/decisions/0013


def packed_crop(chunk: Size, crop: Size, crops: int) -> Size | None:
    """A crop's extent where slots are to hold crops, None where they are to hold chunks.

    Where the `crops` that are taken of a chunk have few pixels beside it, keeping the chunk would
    keep memory that nothing shows, most of it never read.
    """
    return crop if crops <= _MOST and crops * crop.area <= _DENSE * chunk.area else None
