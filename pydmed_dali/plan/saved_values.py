"""Reading a saved state's values: of the right kind and within bounds, or a `StateError`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.errors import StateError

LARGEST = 2**53
"""Whole numbers up to here are exact in JSON."""


def damaged(what: str, expected: str, value: object) -> StateError:
    """The error for a value that no state has."""
    text = repr(value)
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return StateError(
        f"the state is damaged: {what} must be {expected}, not {shown}; load an older copy"
    )


def whole(value: object, what: str, least: int = 0, most: int = LARGEST) -> int:
    """A whole number from `least` to `most`; as a key of JSON it may be a string."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise damaged(what, f"a whole number from {least:,} to {most:,}", value)
    return value


def mapping(value: object, what: str) -> Mapping[Any, Any]:
    """A dict."""
    if not isinstance(value, Mapping):
        raise damaged(what, "a dict", value)
    return value


def part(values: object, name: str, what: str) -> Any:
    """A dict's value of this name."""
    found = mapping(values, what)
    if name not in found:
        raise StateError(f"the state is damaged: {what} lacks {name!r}; load an older copy")
    return found[name]


def items(value: object, what: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list | tuple):
        raise damaged(what, "a list", value)
    return list(value)


def text(value: object, what: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise damaged(what, "a string", value)
    return value


def numbers(
    value: object, what: str, length: int, least: float, most: float
) -> NDArray[np.float64]:
    """(length,): numbers from `least` to `most`."""
    found = items(value, what)
    plain = all(isinstance(n, int | float) and not isinstance(n, bool) for n in found)
    if not plain or len(found) != length or not all(least <= n <= most for n in found):
        raise damaged(what, f"{length} numbers from {least:g} to {most:g}", value)
    return np.array(found, np.float64)
