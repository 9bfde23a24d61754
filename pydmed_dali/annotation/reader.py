"""Annotation files of any known format."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydmed_dali.annotation import asap, imagescope
from pydmed_dali.annotation.annotation import Annotation, Annotations
from pydmed_dali.annotation.class_names import check_exclusions, is_among
from pydmed_dali.annotation.defaults import EXCLUSIONS, MOST_BYTES
from pydmed_dali.annotation.geojson import parse_geojson
from pydmed_dali.annotation.outline import Outline
from pydmed_dali.annotation.polygons import Notes, build_polygons
from pydmed_dali.annotation.safe_xml import parse_xml
from pydmed_dali.errors import AnnotationError
from pydmed_dali.text import shorten_list

_DIGEST_BYTES = 16
_HEAD = 64
_BEFORE_TEXT = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"  # byte order marks, UTF-16's zeros, blanks

logger = logging.getLogger("pydmed_dali.annotation")


@dataclass(frozen=True)
class FileContent:
    """All that is found in an annotation file."""

    annotations: Annotations
    digest: str
    """Of the file's bytes."""
    excluded: Mapping[str, int]
    """How many annotations are of each class that is cut out of the others."""
    warnings: tuple[str, ...]
    """What is remarkable about it, each naming the file."""


def read_annotations(
    path: str | os.PathLike[str],
    exclusions: Collection[str] = EXCLUSIONS,
    max_bytes: int = MOST_BYTES,
) -> Annotations:
    """Read what is drawn on a slide: GeoJSON (QuPath), or the XML of ASAP, ImageScope or HALO.

    The format is known by the contents. Coordinates are level-0 pixels, as all these programs write
    them; `Annotations.frame` says whose corner is (0, 0). Regions of the classes `exclusions` (in
    any case of letters) are cut out of all others and are no regions themselves: by default
    `Exclusion` and QuPath's `Ignore*`. Polygons that cross themselves are repaired, what has no
    area (points, lines, polygons of fewer than three corners) is left out, each with a warning by
    logging.

    Raises `AnnotationError`, naming the file, when it cannot be read, is larger than `max_bytes`,
    is none of the formats, holds coordinates that are no numbers or an outline that crosses itself
    100,000 times, or no region at all.
    """
    content = read_file(Path(path), exclusions, max_bytes)
    for warning in content.warnings:
        logger.warning("%s", warning)
    return content.annotations


def read_file(path: Path, exclusions: Collection[str], max_bytes: int) -> FileContent:
    """The content of an annotation file; see `read_annotations`. Logs nothing."""
    check_exclusions(exclusions)
    try:
        data = _read(path, max_bytes)
        outlines, frame = _parse(data)
        built, notes = build_polygons(outlines, exclusions)
        if not built:
            raise AnnotationError(_nothing(outlines, notes, exclusions))
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error.__cause__
    except RecursionError:
        raise AnnotationError(f"{path}: it is nested too deeply to be an annotation") from None
    regions = tuple(
        Annotation.of_valid(outline.class_name, polygons, outline.name)
        for outline, polygons in built
    )
    excluded = {
        name: count
        for name, count in Counter(outline.class_name for outline in outlines).items()
        if is_among(name, exclusions)
    }
    warnings = tuple(f"{path}: {told}" for told in _warnings(outlines, notes))
    return FileContent(Annotations(path, regions, frame), digest_of(data), excluded, warnings)


def _warnings(outlines: Sequence[Outline], notes: Notes) -> Iterator[str]:
    by_text = [f"{o.where} {o.class_name!r}" for o in outlines if o.is_named_by_text]
    for what, told in (
        ("cross themselves and were repaired", [text for _, text in notes.repaired]),
        ("have no area and are left out", [text for _, text in notes.left_out]),
        ("are of a layer without a name, so their Text is their class", by_text),
    ):
        if told:
            yield f"{len(told)} of {len(outlines)} annotations {what} ({shorten_list(told)})"


def _nothing(outlines: Sequence[Outline], notes: Notes, exclusions: Collection[str]) -> str:
    """Why there is no region, and what can be done."""
    told = f"it holds no region, only {len(outlines)} annotations"
    if not outlines:
        return f"{told}; where a slide has none, let it have no file"
    reasons = [text for _, text in notes.left_out]
    cut = sum(is_among(outline.class_name, exclusions) for outline in outlines)
    if cut:
        reasons.append(f"{cut} of exclusions={tuple(exclusions)!r}")
    return (
        f"{told} without an area or cut out by others ({shorten_list(reasons)}); regions "
        "are polygons, rectangles and ellipses: export what is drawn as these, e.g. as GeoJSON"
    )


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


def _parse(data: bytes) -> tuple[list[Outline], str]:
    """(outlines, `Annotations.frame`).

    QuPath shows of a slide only OpenSlide's bounds, since version 0.2.0; ImageScope shows a Leica
    SCN so too, and HALO begins near there. ASAP shows all that OpenSlide does.
    """
    if not data[:_HEAD].lstrip(_BEFORE_TEXT).startswith(b"<"):
        return parse_geojson(data), "bounds"
    root = parse_xml(data)
    if root.tag == asap.ROOT:
        return asap.parse_asap(root), "slide"
    if root.tag == imagescope.ROOT:
        return imagescope.parse_imagescope(root), "bounds"
    raise AnnotationError(
        f"its XML begins with <{root.tag[:_HEAD]}>; expected <{asap.ROOT}> (ASAP) or "
        f"<{imagescope.ROOT}> (ImageScope, HALO)"
    )
