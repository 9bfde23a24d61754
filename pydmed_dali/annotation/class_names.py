"""The names of classes: which there are, which is meant by another, and which are no class."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from pydmed_dali.errors import AnnotationError, OptionError
from pydmed_dali.text import closest_match, shorten_list

MOST_CLASSES = 255
"""A mask is uint8, and its 0 is no class."""

logger = logging.getLogger("pydmed_dali.annotation")


def check_classes(classes: Sequence[str]) -> None:
    """Raise `OptionError` unless these are names that a uint8 mask can number."""
    if isinstance(classes, str) or not 1 <= len(set(classes)) == len(classes) <= MOST_CLASSES:
        raise OptionError(
            f"classes must be 1 to {MOST_CLASSES} different names in a sequence, not {classes!r}"
        )


def check_exclusions(exclusions: Collection[str], classes: Collection[str] = ()) -> None:
    """Raise `OptionError` unless these are names of classes, none of them among `classes`."""
    if isinstance(exclusions, str):
        raise OptionError(f"exclusions must be several classes, not the text {exclusions!r}")
    wrong = [repr(name) for name in exclusions if not isinstance(name, str)]
    if wrong:
        raise OptionError(f"exclusions must be names of classes, not {shorten_list(wrong)}")
    both = [repr(name) for name in classes if is_among(name, exclusions)]
    if both:
        raise OptionError(
            f"{shorten_list(both)} is among classes and among exclusions={tuple(exclusions)!r}, "
            "whose regions are cut out of all others; leave it out of one of them"
        )


def is_among(name: str, names: Collection[str]) -> bool:
    """Whether a class is one of `names`, in any case of letters."""
    return name.strip().casefold() in {other.strip().casefold() for other in names}


def is_ignored(name: str) -> bool:
    """Whether QuPath ignores a class: its name, or the last of its names, ends with `*`.

    QuPath makes no objects of such a class and does not measure it (`Ignore*`, `Artefact*`,
    `Region*`; `PathClassTools.isIgnoredClass` of QuPath 0.3).
    """
    return name.endswith("*")


def refuse_unknown(classes: Sequence[str], counts: Mapping[str, int]) -> None:
    """Raise `AnnotationError` for classes of which there is no region; `counts` has the regions."""
    missing = [name for name in classes if name not in counts]
    if missing:
        near = closest_match(missing[0], counts)
        present = ", ".join(f"{name!r} ({count})" for name, count in Counter(counts).most_common())
        raise AnnotationError(
            f"no region has the class {shorten_list([repr(name) for name in missing])}"
            + (f"; did you mean {near!r}?" if near else ";")
            + f" the classes, with their regions, are {present or 'none'}"
        )


def warn_of_spellings(classes: Sequence[str], counts: Mapping[str, int]) -> None:
    """Warn of classes that are probably `classes` in another spelling; `counts` has the regions.

    Regions of a class that is not among `classes` count as nothing. Where a class is among them,
    but is spelt as another one is except for letters' case, blanks, `-` and `_`, each has a number
    of its own.
    """
    others = [name for name in counts if name not in classes]
    meant = [(name, near) for name in others if (near := meant_by(name, classes))]
    if meant:
        logger.warning(
            "regions of these classes are not among classes, so they count as nothing: %s; spell "
            "the class alike in all files, or name both spellings",
            shorten_list([f"{name!r} ({counts[name]}), close to {near!r}" for name, near in meant]),
        )
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(_spelling(name), []).append(name)
    doubled = [" and ".join(map(repr, names)) for names in alike.values() if len(names) > 1]
    if doubled:
        logger.warning(
            "these classes differ only in how they are spelt, and are numbered apart: %s",
            shorten_list(doubled),
        )


def meant_by(name: str, names: Iterable[str]) -> str | None:
    """Which of `names` was probably meant by `name`, which is not among them.

    Names that differ in a digit (`grade 3`, `grade 4`) are never meant by each other.
    """
    digits = re.findall(r"\d+", name)
    comparable = [other for other in names if re.findall(r"\d+", other) == digits]
    spelt = {_spelling(other): other for other in comparable}
    return spelt.get(_spelling(name)) or closest_match(name, comparable)


def _spelling(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.casefold())
