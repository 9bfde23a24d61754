"""The table of rooms on the architecture page is the one that the imports are tested by."""

from __future__ import annotations

import re

from tests.unit.test_architecture import CHECKOUT, FACE, HEAVY_ROOMS, ROOMS

PAGE = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")


def may_import(room: str) -> str:
    """What the page says that a room may import."""
    if room == ROOMS[0]:
        return "nothing of ours"
    if room == FACE:
        return "every room, lazily"
    return "the rooms above" + "; DALI, torch, CuPy" * (room in HEAVY_ROOMS)


def test_the_table_of_rooms_is_the_order_of_imports() -> None:
    table = PAGE[PAGE.index("| room | what it is | may import |") :]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", table, re.MULTILINE)
    assert [(room, imports) for room, _, imports in rows] == [
        (room, may_import(room)) for room in ROOMS
    ]


def test_the_page_shows_its_picture() -> None:
    """With text as text and a background of its own, so that it can be read in any mode."""
    (name,) = re.findall(r"\]\((pictures/[\w.]+\.svg)\)", PAGE)
    picture = (CHECKOUT / "docs" / name).read_text(encoding="utf-8")
    texts = re.findall(r"<text[^>]*>([^<]+)</text>", picture)
    rooms = set(re.findall(r'class="room"[^>]*>(\w+)<', picture))
    assert len(texts) > 20 and rooms < set(ROOMS) and '<rect class="page"' in picture


def test_words_in_italics_are_in_the_glossary() -> None:
    glossary = (CHECKOUT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = {name.lower() for name in re.findall(r"^- \*\*(.+?)\*\*", glossary, re.MULTILINE)}
    words = re.findall(r"(?<![*\w])\*(\w[\w -]*)\*(?![*\w])", PAGE)
    assert len(words) > 5
    assert [w for w in words if not {w, w.removesuffix("s")} & (terms | {"italics"})] == []
