"""Names that look alike: one spelling for what Unicode calls the same, a warning for the rest."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable

from pydmed_dali.text import shorten_list

logger = logging.getLogger("pydmed_dali.dataset")


def composed(name: str) -> str:
    """The name in Unicode's normal form C: `u` and a combining diaeresis become `ü`.

    A Mac may write one and Linux the other; both are one name.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def variants(name: str) -> tuple[str, ...]:
    """The name as it is, composed and decomposed: each spelling once."""
    if name.isascii():
        return (name,)
    forms = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return tuple(dict.fromkeys((name, *forms)))


def warn_of_look_alikes(what: str, names: Iterable[str]) -> None:
    """Log once which names differ only in case or in characters that are not seen."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_look(name), []).append(name)
    alike = [f"{group[0]!a} and {group[1]!a}" for group in groups.values() if len(group) > 1]
    if alike:
        logger.warning(
            "%ss that differ only in case, or in characters that are not seen, count as different "
            "ones: %s; where they are one, correct the table, or what gives the names",
            what,
            shorten_list(alike),
        )


def _look(name: str) -> str:
    folded = name.casefold()
    if not folded.isascii():
        folded = unicodedata.normalize("NFKC", folded)
        folded = "".join(c for c in folded if unicodedata.category(c) != "Cf")
    return " ".join(folded.split())
