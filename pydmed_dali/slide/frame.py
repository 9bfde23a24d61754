"""Whose upper left corner, and whose extent, a drawing made in another program refers to.

OpenSlide shows a slide with a frame around what was scanned. QuPath and others show, and export,
only the scanned rectangle.
"""

from __future__ import annotations

from pydmed_dali.errors import OptionError

FRAMES = ("auto", "slide", "bounds")
"""As the program and the file tell; the whole slide; what of it was scanned."""


def check_frame(frame: str) -> str:
    """The frame itself; raises `OptionError` for any other word."""
    if frame not in FRAMES:
        raise OptionError(
            f"frame must be one of {', '.join(FRAMES)}, not {frame!r}: it says whether annotations "
            "and masks are of the whole slide, or of what of it was scanned"
        )
    return frame
