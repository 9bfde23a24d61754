"""Names in messages: one line that any terminal and any file can hold."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from pydmed_dali.text import paragraph, printable, shorten_list


def test_names_stay_readable_and_control_characters_are_escaped() -> None:
    assert printable("Müller 切片\u00a01.svs") == "Müller 切片\u00a01.svs"
    assert printable("a\nb\x1b[31mc\t\u202ed\u2028e") == r"a\nb\x1b[31mc\t\u202ed\u2028e"
    assert printable(os.fsdecode(b"bad\xff.svs")) == r"bad\xff.svs"
    assert shorten_list(["a\nb", "c"]) == r"a\nb, c"


def test_a_list_in_a_message_keeps_its_lines_and_a_name_does_not() -> None:
    assert paragraph("two:\n  a\nb\n  c\x1b") == "two:\n  a\\nb\n  c\\x1b"


@given(st.text() | st.binary().map(os.fsdecode))
def test_any_name_becomes_one_line_of_utf_8(name: str) -> None:
    shown = printable(name)
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)
