"""Points, sizes and regions, each with its frame of coordinates.

Two frames occur. *Level 0* is the finest level of the slide file: locations are given in it, as in
OpenSlide. A *view* is what is cut into chunks: one level of the file, or a level resampled to a
requested resolution; sizes are given in its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydmed_dali.errors import OptionError


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A position (x to the right, y downwards) in pixels; its user says in which frame."""

    x: int
    y: int


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """A width and a height in pixels; its user says in which frame."""

    width: int
    height: int

    @property
    def area(self) -> int:
        """Width times height, in pixels."""
        return self.width * self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @classmethod
    def of(cls, value: int | Size, name: str) -> Size:
        """A square size from an int, or `value` itself; `name` is the option named in the error."""
        if isinstance(value, Size):
            size = value
        elif isinstance(value, int) and not isinstance(value, bool):
            size = cls(value, value)
        else:
            raise OptionError(f"{name} must be an int or a Size(width, height), not {value!r}")
        sides = (size.width, size.height)
        if not all(isinstance(side, int) and side >= 1 for side in sides):
            raise OptionError(
                f"{name} must be at least 1 pixel in each direction, in whole pixels, not {size}"
            )
        return size


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle in pixels; its user says in which frame."""

    location: Point
    """Top left corner."""
    size: Size
    """Extent to the right and downwards."""

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rows and the columns of an image, (height, width, ...), that the region covers."""
        x, y = self.location.x, self.location.y
        return slice(y, y + self.size.height), slice(x, x + self.size.width)
