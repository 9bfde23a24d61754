"""Which values of a mask's image are tissue, as a user states them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.errors import OptionError

_NUMBERS = re.compile(r"(\d+)(?:-(\d+))?")
_COLOUR = re.compile(r"#([0-9a-fA-F]{6})")

GivenValues = str | Collection[int | str]
"""Whole numbers and `#rrggbb` colours, one by one or as text: `[1, 3]`, `"1, 3-5, #ff0000"`."""


@dataclass(frozen=True, slots=True)
class TissueValues:
    """Values that are tissue; all others are not."""

    spans: tuple[tuple[int, int], ...]
    """Whole numbers, (first, last) each, in order and apart from each other."""
    colours: tuple[int, ...]
    """Colours, 0xRRGGBB each, in order."""

    @classmethod
    def of(cls, given: GivenValues) -> TissueValues:
        """Read what a user gave; raises `OptionError` for anything else, and for nothing at all."""
        words = given.split(",") if isinstance(given, str) else given
        if not isinstance(words, Collection):
            raise _refusal(given)
        numbers: set[int] = set()
        colours: set[int] = set()
        for word in words:
            if isinstance(word, int | np.integer) and not isinstance(word, bool) and word >= 0:
                numbers.add(int(word))
            elif isinstance(word, str) and (match := _NUMBERS.fullmatch(word.strip())):
                first = int(match[1])
                numbers.update(range(first, int(match[2] or first) + 1))
            elif isinstance(word, str) and (match := _COLOUR.fullmatch(word.strip())):
                colours.add(int(match[1], 16))
            else:
                raise _refusal(given)
        if not numbers and not colours:
            raise _refusal(given)
        return cls(_spans(sorted(numbers)), tuple(sorted(colours)))

    def hold(self, numbers: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each of these numbers is one of the values."""
        found = np.zeros(numbers.shape, np.bool_)
        for first, last in self.spans:
            found |= (numbers >= first) & (numbers <= last)
        return found

    def __str__(self) -> str:
        spans = (f"{first}" if first == last else f"{first}-{last}" for first, last in self.spans)
        return ", ".join([*spans, *(f"#{colour:06x}" for colour in self.colours)])


def _spans(numbers: list[int]) -> tuple[tuple[int, int], ...]:
    """Runs of neighbouring numbers."""
    spans: list[tuple[int, int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    return tuple(spans)


def _refusal(given: object) -> OptionError:
    return OptionError(
        f"tissue_values={given!r} names no values of masks; give whole numbers of at least 0, "
        "spans of them, or colours: tissue_values=[1, 3], '128-255' or '#ff0000'"
    )
