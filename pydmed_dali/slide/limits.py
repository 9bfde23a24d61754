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

_PER_INCH = 25_400  # micrometres

LEAST_MPP, MOST_MPP = 1e-4, 1e5
"""Micrometres per pixel, from a tenth of a nanometre to ten centimetres: electron microscopes and
whole-body scanners lie far within."""

FINEST_SCAN, COARSEST_SCAN = 0.02, 20.0
"""Micrometres per pixel of a scan's finest level. No light microscope sees 0.02, which is also more
than numbers in millimetres are by mistake (0.00025). At 20, a glass slide is 1,250 pixels wide;
coarser are the resolutions that programs write for printers where they know none: 1,200 dpi is
21.2, 72 dpi is 352.8, and 10 per centimetre is 1,000.
"""


def believable_mpp(x: float | None, y: float | None) -> tuple[float, float] | None:
    """(x, y) if both can be micrometres per pixel, else None: then the file does not tell."""
    if x is None or y is None:
        return None
    return (x, y) if all(LEAST_MPP <= each <= MOST_MPP for each in (x, y)) else None


def scanned_mpp(x: float | None, y: float | None) -> tuple[tuple[float, float] | None, str | None]:
    """((x, y), None) if a scanner's finest level can have so many micrometres per pixel.

    Else (None, what is wrong with them), or (None, None) where the file does not tell any.
    """
    if x is None or y is None:
        return None, None
    if all(FINEST_SCAN <= each <= COARSEST_SCAN for each in (x, y)):
        return (x, y), None
    return None, (
        f"the file tells {x:.4g} x {y:.4g} micrometres per pixel ({_PER_INCH / x:.4g} dpi), which "
        f"no scanner has ({FINEST_SCAN:g} to {COARSEST_SCAN:g}): it is taken not to tell any; give "
        "default_mpp"
    )


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
