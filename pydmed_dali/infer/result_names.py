"""What the results of each slide are called: alike in every call, and never as another slide's."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydmed_dali.dataset import Record
from pydmed_dali.dataset.short_name import short_name
from pydmed_dali.dataset.spelling import composed

_DIGEST = 4  # bytes
_PARTED = "--"


def result_names(slides: Sequence[Record], most: int, fold: bool = False) -> dict[Path, str]:
    """The name of each slide's results, without ending, by the slide's path.

    A slide `b/x.svs` whose name no other has is `x`. Slides of one name are told apart by their
    folders, `a--x` and `b--x`; where that is not enough, as for `x.svs` and `x.tif` in one folder,
    by the ending too, and at last by a digest of the path. The order of the slides does not matter.

    Args:
        slides: all slides of the dataset.
        most: bytes that a name may have; longer ones are cut, and end in a digest of the whole.
        fold: whether names that differ in case alone are one, as on some shares.
    """
    names: dict[Path, str] = {}
    taken: set[str] = set()
    left = list(slides)
    for name_of in (_stem, _with_folders, _with_ending, _with_digest):
        found = {record.path: short_name(name_of(record), most) for record in left}
        keys = {path: _key(name, fold) for path, name in found.items()}
        counts = Counter(keys.values())
        alone = {path for path, key in keys.items() if counts[key] == 1 and key not in taken}
        names |= {path: found[path] for path in alone}
        # A name that several might have is none's: a file of it may be of any of them.
        taken |= set(keys.values())
        left = [record for record in left if record.path not in alone]
    assert not left, left
    return names


def _stem(record: Record) -> str:
    return record.relative.stem


def _with_folders(record: Record) -> str:
    return _PARTED.join(record.relative.with_suffix("").parts)


def _with_ending(record: Record) -> str:
    return _PARTED.join(record.relative.parts)


def _with_digest(record: Record) -> str:
    digest = hashlib.blake2b(os.fsencode(record.path), digest_size=_DIGEST).hexdigest()
    return f"{_with_ending(record)}-{digest}"


def _key(name: str, fold: bool) -> str:
    same = composed(name)
    return same.casefold() if fold else same
