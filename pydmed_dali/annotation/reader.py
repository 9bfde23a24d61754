"""Annotation files of any known format."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from pydmed_dali.annotation import asap, imagescope
from pydmed_dali.annotation.annotation import Annotation, Annotations
from pydmed_dali.annotation.geojson import parse_geojson
from pydmed_dali.annotation.outline import Outline
from pydmed_dali.annotation.polygons import build_polygons
from pydmed_dali.annotation.safe_xml import parse_xml
from pydmed_dali.errors import AnnotationError, OptionError

MOST_BYTES = 256 * 2**20
"""Files larger than this are refused unless told otherwise: read, they take many times that."""

_HEAD = 64
_BEFORE_TEXT = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"  # byte order marks, UTF-16's zeros, blanks


def read_annotations(
    path: str | os.PathLike[str],
    exclusions: Collection[str] = ("Exclusion",),
    max_bytes: int = MOST_BYTES,
) -> Annotations:
    """Read what is drawn on a slide, from GeoJSON (QuPath) or the XML of ASAP or ImageScope.

    The format is known by the contents. Coordinates are taken as level-0 pixels, as all three
    programs write them. Regions of the classes `exclusions` (in any case of letters) are cut out of
    all others. Polygons that cross themselves are repaired, what has no area (points, lines,
    polygons of fewer than three corners) is left out, each with a warning by logging.

    Raises `AnnotationError`, naming the file, when it cannot be read, is larger than `max_bytes`,
    is none of the formats, holds coordinates that are no numbers, or no region at all.
    """
    if isinstance(exclusions, str):
        raise OptionError(f"exclusions must be several classes, not the text {exclusions!r}")
    path = Path(path)
    try:
        outlines = _parse(_read(path, max_bytes))
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
    return Annotations(path, regions)


def _read(path: Path, max_bytes: int) -> bytes:
    if not path.is_file():
        raise AnnotationError("there is no such file")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(max_bytes) if size <= max_bytes else b""
    except OSError as error:
        raise AnnotationError(f"it cannot be read: {error.strerror}") from error
    if size > max_bytes:
        raise AnnotationError(
            f"it has {size} bytes, more than max_bytes={max_bytes}; raise max_bytes if the file is "
            "what it should be"
        )
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
