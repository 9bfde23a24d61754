"""How messages list what they are about, and what they suggest instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_SHOWN = 5
_ITEM = re.compile("\n(?=  )")
_CLOSE = 0.8
_RAW_BYTES = range(0xDC80, 0xDD00)  # how Python keeps bytes of a file name that are no UTF-8


def shorten_list(values: Sequence[object]) -> str:
    """The first few values, printable, with `...` for the others."""
    shown = ", ".join(printable(value) for value in values[:_SHOWN])
    return shown if len(values) <= _SHOWN else f"{shown}, ..."


def printable(value: object, keep: str = "") -> str:
    r"""A name as any terminal and any file can hold it: what is no printable character is escaped.

    Control characters, line ends and what turns the direction of writing become `\n`, `\x1b`,
    `\u202e`, and bytes of a file name that are no UTF-8 `\xff`. Everything else stays as it is.

    Args:
        value: its text is taken.
        keep: characters that stay as they are, too.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def paragraph(text: str) -> str:
    """A message, printable; line ends stay where a list goes on, indented, in the next line."""
    return "\n".join(printable(line) for line in _ITEM.split(text))


def _escaped(character: str) -> str:
    if character.isspace() and character not in "\t\n\r\v\f\x1c\x1d\x1e\x1f\x85\u2028\u2029":
        return character  # a space of another width
    code = ord(character)
    if code in _RAW_BYTES:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def closest_match(name: str, names: Iterable[str]) -> str | None:
    """Which of `names` was probably meant by `name`, which is not among them."""
    lowered = {other.lower(): other for other in names}
    found = get_close_matches(name.lower(), lowered, n=1, cutoff=_CLOSE)
    return lowered[found[0]] if found else None


def format_gib(count: int) -> str:
    """A number of bytes, in GiB."""
    return f"{count / 2**30:.2f} GiB"
