"""What a slide file may claim to be: checked before any memory is taken by its word."""

from __future__ import annotations

from collections.abc import Sequence

from pydmed_dali.errors import SlideFormatError
from pydmed_dali.geometry import Size

MOST_PIXELS_A_SIDE = 2**21
"""No scanner makes more: a glass slide, 76 mm long, has 760,000 pixels of 0.1 micrometres."""

MOST_LEVELS = 64
"""Halving that side 21 times leaves one pixel."""

MOST_PIXELS_A_TILE = 2**26
"""8192x8192: OpenSlide holds a whole tile in memory, here 256 MiB of RGBA, and ends the process
where there is not so much. Scanners write tiles of a few hundred pixels a side, or wide strips.
"""

LEAST_MPP, MOST_MPP = 1e-4, 1e5
"""Micrometres per pixel, from a tenth of a nanometre to ten centimetres: electron microscopes and
whole-body scanners lie far within."""


def believable_mpp(x: float | None, y: float | None) -> tuple[float, float] | None:
    """(x, y) if both can be micrometres per pixel, else None: then the file does not tell."""
    if x is None or y is None:
        return None
    return (x, y) if all(LEAST_MPP <= each <= MOST_MPP for each in (x, y)) else None


def check_claims(
    level_dimensions: Sequence[Size],
    level_downsamples: Sequence[float],
    tile_sizes: Sequence[Size | None],
    mpp: tuple[float, float] | None,
) -> None:
    """Raise `SlideFormatError` for sizes beyond what is sane; see `SlideFacts` for the arguments.

    The message does not know the slide's path.
    """
    if not 1 <= len(level_dimensions) <= MOST_LEVELS:
        raise SlideFormatError(
            f"it claims {len(level_dimensions)} levels; a slide has 1 to {MOST_LEVELS}"
        )
    for level, size in enumerate(level_dimensions):
        if not all(1 <= side <= MOST_PIXELS_A_SIDE for side in (size.width, size.height)):
            raise SlideFormatError(
                f"level {level} claims {size} pixels; a side has 1 to {MOST_PIXELS_A_SIDE:,}"
            )
    for level, downsample in enumerate(level_downsamples):
        if not 0 < downsample <= MOST_PIXELS_A_SIDE:
            raise SlideFormatError(f"level {level} claims a downsample of {downsample}")
    for level, tile in enumerate(tile_sizes):
        if tile is not None and not (
            tile.width >= 1 and tile.height >= 1 and tile.area <= MOST_PIXELS_A_TILE
        ):
            raise SlideFormatError(
                f"level {level} claims tiles of {tile} pixels; a tile has 1 to "
                f"{MOST_PIXELS_A_TILE:,} pixels"
            )
    if mpp is not None and believable_mpp(*mpp) is None:
        raise SlideFormatError(
            f"it claims {mpp[0]} x {mpp[1]} micrometres per pixel; these are {LEAST_MPP:g} to "
            f"{MOST_MPP:,.0f}, or None where the file does not tell"
        )
