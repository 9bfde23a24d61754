"""What annotation files hold, kept on disk: parsing a large one takes seconds to minutes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydmed_dali.annotation.reader import FileContent, check_size, read_file
from pydmed_dali.annotation.table import PolygonTable
from pydmed_dali.slide.cache import Cache, file_key
from pydmed_dali.worker.annotation_plan import AnnotationFile, ReadingRules

_VERSION = 4  # of what is kept of a file, and of how it is read
_DIGEST_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class KeptTable:
    """The polygons of one annotation file."""

    table: PolygonTable
    digest: str
    """Of the file's contents."""


def find_kept(path: Path, rules: ReadingRules, cache: Cache) -> AnnotationFile | None:
    """What is known of a file that was read before; None where it was not.

    Raises `AnnotationError` where it is larger than the rules allow, read before or not.
    """
    check_size(path, rules.max_bytes)
    data = cache.get(_key(path, "annotated classes", rules))
    return None if data is None else _file(path, json.loads(data))


def read_and_keep(path: Path, rules: ReadingRules, cache: Cache) -> AnnotationFile:
    """Read a file, and keep what it holds. Raises `AnnotationError` where it cannot be used."""
    return _read(path, rules, cache)[0]


def load_table(path: Path, rules: ReadingRules, cache: Cache) -> KeptTable:
    """The polygons of a file, as they are kept, or else read and kept."""
    data = cache.get(_key(path, "annotated polygons", rules))
    if data is None:
        _, content = _read(path, rules, cache)
        return KeptTable(content.annotations.table, content.digest)
    digest, table = data[:_DIGEST_CHARACTERS], data[_DIGEST_CHARACTERS:]
    return KeptTable(PolygonTable.from_bytes(table), digest.decode())


def _read(path: Path, rules: ReadingRules, cache: Cache) -> tuple[AnnotationFile, FileContent]:
    # Keys first: a file that changes meanwhile has another one, and its digest is of what was read.
    classes, polygons = (
        _key(path, kind, rules) for kind in ("annotated classes", "annotated polygons")
    )
    content = read_file(path, rules.exclusions, rules.max_bytes)
    found = {
        "digest": content.digest,
        "regions": dict(Counter(region.class_name for region in content.annotations.regions)),
        "excluded": dict(content.excluded),
        "warnings": list(content.warnings),
        "frame": content.annotations.frame,
    }
    if polygons is not None and cache.keeps:
        cache.put(polygons, content.digest.encode() + content.annotations.table.to_bytes())
    cache.put(classes, json.dumps(found).encode())
    return _file(path, found), content


def _file(path: Path, found: dict[str, Any]) -> AnnotationFile:
    return AnnotationFile(
        path,
        found["digest"],
        found["regions"],
        found["excluded"],
        tuple(found["warnings"]),
        found["frame"],
    )


def _key(path: Path, kind: str, rules: ReadingRules) -> str | None:
    return file_key(path, kind, _VERSION, rules.identity)
