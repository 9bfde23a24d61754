"""How messages list what they are about, and what they suggest instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_SHOWN = 5
_CLOSE = 0.8


def some(values: Sequence[object]) -> str:
    """The first few values, with `...` for the others."""
    shown = ", ".join(str(value) for value in values[:_SHOWN])
    return shown if len(values) <= _SHOWN else f"{shown}, ..."


def closest(name: str, names: Iterable[str]) -> str | None:
    """Which of `names` was probably meant by `name`, which is not among them."""
    lowered = {other.lower(): other for other in names}
    found = get_close_matches(name.lower(), lowered, n=1, cutoff=_CLOSE)
    return lowered[found[0]] if found else None


def gib(count: int) -> str:
    """A number of bytes, in GiB."""
    return f"{count / 2**30:.2f} GiB"
