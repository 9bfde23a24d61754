"""Annotation files of any known format."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydmed_dali.annotation import asap, imagescope
from pydmed_dali.annotation.annotation import Annotation, Annotations
from pydmed_dali.annotation.class_names import check_exclusions, is_among
from pydmed_dali.annotation.geojson import parse_geojson
from pydmed_dali.annotation.outline import EXCLUSIONS, MOST_BYTES, Outline
from pydmed_dali.annotation.polygons import build_polygons
from pydmed_dali.annotation.safe_xml import parse_xml
from pydmed_dali.errors import AnnotationError

_DIGEST_BYTES = 16
_HEAD = 64
_BEFORE_TEXT = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"  # byte order marks, UTF-16's zeros, blanks


@dataclass(frozen=True)
class FileContent:
    """All that is found in an annotation file."""

    annotations: Annotations
    digest: str
    """Of the file's bytes."""
    excluded: Mapping[str, int]
    """How many annotations are of each class that is cut out of the others."""


def read_annotations(
    path: str | os.PathLike[str],
    exclusions: Collection[str] = EXCLUSIONS,
    max_bytes: int = MOST_BYTES,
) -> Annotations:
    """Read what is drawn on a slide, from GeoJSON (QuPath) or the XML of ASAP or ImageScope.

    The format is known by the contents. Coordinates are taken as level-0 pixels, as all three
    programs write them. Regions of the classes `exclusions` (in any case of letters) are cut out of
    all others and are no regions themselves: by default `Exclusion` and QuPath's `Ignore*`.
    Polygons that cross themselves are repaired, what has no area (points, lines, polygons of fewer
    than three corners) is left out, each with a warning by logging.

    Raises `AnnotationError`, naming the file, when it cannot be read, is larger than `max_bytes`,
    is none of the formats, holds coordinates that are no numbers, or no region at all.
    """
    return read_file(Path(path), exclusions, max_bytes).annotations


def read_file(path: Path, exclusions: Collection[str], max_bytes: int) -> FileContent:
    """The content of an annotation file; see `read_annotations`."""
    check_exclusions(exclusions)
    try:
        data = _read(path, max_bytes)
        outlines = _parse(data)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error.__cause__
    except RecursionError:
        raise AnnotationError(f"{path}: it is nested too deeply to be an annotation") from None
    regions = tuple(
        Annotation(outline.class_name, polygons, outline.name)
        for outline, polygons in build_polygons(path, outlines, exclusions)
    )
    if not regions:
        raise AnnotationError(
            f"{path}: it holds no region, only {len(outlines)} annotations without an area or cut "
            "out by others; leave the file away where a slide has no annotations"
        )
    excluded = Counter(o.class_name for o in outlines if is_among(o.class_name, exclusions))
    return FileContent(Annotations(path, regions), digest_of(data), excluded)


def digest_of(data: bytes) -> str:
    """A digest of a file's bytes."""
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def check_size(path: Path, max_bytes: int) -> None:
    """Raise `AnnotationError`, naming the file, where it is larger than `max_bytes`."""
    try:
        if path.is_file():
            _check_size(path.stat().st_size, max_bytes)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from None


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise AnnotationError(
            f"it has {size} bytes, more than max_bytes={max_bytes}; raise that (of a source "
            "max_annotation_bytes, of a command --max-annotation-bytes) if the file is what it "
            "should be"
        )


def _read(path: Path, max_bytes: int) -> bytes:
    if not path.is_file():
        raise AnnotationError("there is no such file")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(max_bytes) if size <= max_bytes else b""
    except OSError as error:
        raise AnnotationError(f"it cannot be read: {error.strerror}") from error
    _check_size(size, max_bytes)
    if not data.strip():
        raise AnnotationError("it is empty")
    return data


def _parse(data: bytes) -> list[Outline]:
    if not data[:_HEAD].lstrip(_BEFORE_TEXT).startswith(b"<"):
        return parse_geojson(data)
    root = parse_xml(data)
    if root.tag == asap.ROOT:
        return asap.parse_asap(root)
    if root.tag == imagescope.ROOT:
        return imagescope.parse_imagescope(root)
    raise AnnotationError(
        f"its XML begins with <{root.tag[:_HEAD]}>; expected <{asap.ROOT}> (ASAP) or "
        f"<{imagescope.ROOT}> (ImageScope)"
    )
