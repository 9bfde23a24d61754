"""Annotations that a user brings along: which file is whose, and which class is which number."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydmed_dali.annotation.annotation import check_classes, refuse_unknown
from pydmed_dali.annotation.reader import read_annotations
from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import AnnotationError, OptionError
from pydmed_dali.loader.annotation_plan import REST, AnnotationFile, AnnotationPlan, digest_of
from pydmed_dali.loader.beside import Beside, files_beside
from pydmed_dali.plan.classes import PERIOD
from pydmed_dali.slide.cache import Cache, file_key
from pydmed_dali.wording import some

ANNOTATION_ENDINGS = (".geojson", ".json", ".xml")
"""Endings of the files that are looked for in a folder, in this order."""

Classes = Mapping[str, float] | Sequence[str]
"""Classes in the order of their numbers, from 1 on; with shares, crops are drawn by them."""

_VERSION = 1  # of what is kept of a file
_SLACK = 1e-9  # of sums of shares, which are decimals
_SHOWN = 5

logger = logging.getLogger("pydmed_dali.loader")


def plan_annotations(
    dataset: Dataset, annotations: Beside | None, classes: Classes | None, cache: Path | None
) -> AnnotationPlan | None:
    """What a source's options ask for; None without annotations. Reads every annotation file.

    Raises `OptionError` for options that cannot work, and `AnnotationError` for files that cannot
    be read or hold no region, and for classes that are in none of them.
    """
    if annotations is None:
        if classes is not None:
            raise OptionError(
                "classes are those of annotations: give annotations too, a folder of files or a "
                "function from a slide's path to its file"
            )
        return None
    names, shares = _read_classes(classes)
    files = _read_files(find_annotations(dataset, annotations), Cache(cache))
    counts = Counter[str]()
    for file in files.values():
        counts.update(file.regions)
    if names is None:
        names = tuple(sorted(counts))
        check_classes(names)
    refuse_unknown(names, counts)
    return AnnotationPlan(files, names, shares)


def find_annotations(dataset: Dataset, annotations: Beside) -> dict[Path, Path]:
    """The annotation file of each slide that has one, by the slide's path.

    In a folder, that of `a/slide.svs` (below the dataset's folder) is `a/slide.geojson` or
    `a/slide.svs.geojson`, or such a file with another of `ANNOTATION_ENDINGS`. A function may give
    None. Slides without a file are warned of by logging. Raises `OptionError` where none has one.
    """
    found = files_beside(dataset, "annotations", annotations, ANNOTATION_ENDINGS)
    files = {slide: file for slide, file in found.items() if file is not None and file.is_file()}
    gone = [str(file) for slide, file in found.items() if file is not None and slide not in files]
    if gone and (callable(annotations) or not files):
        raise OptionError(
            f"annotations: {len(gone)} of {len(found)} slides have no annotation file; there is no "
            + some(gone)
            + ("; give None for a slide without annotations" if callable(annotations) else "")
        )
    if not files:
        raise OptionError("annotations gave None for every slide; leave the option away")
    without = [str(slide) for slide in found if slide not in files]
    if without:
        logger.warning(
            "annotations: %d of %d slides have no annotation file, so nothing on them is of any "
            "class (%s)",
            *(len(without), len(found), some(without)),
        )
    return files


def _read_classes(classes: Classes | None) -> tuple[tuple[str, ...] | None, tuple[float, ...]]:
    """(names, shares): no names for those that will be found, no shares where none are given."""
    if classes is None:
        return None, ()
    if not isinstance(classes, Mapping):
        check_classes(classes)
        return tuple(classes), ()
    names = tuple(classes)
    check_classes(names)
    wrong = [
        f"{name!r}: {share!r}"
        for name, share in classes.items()
        if not isinstance(share, int | float)
        or isinstance(share, bool)
        or not 1 / PERIOD <= share <= 1
    ]
    if wrong:
        raise OptionError(
            f"classes must give each class its share of the crops, {1 / PERIOD:g} to 1, not "
            f"{some(wrong)}"
        )
    total = math.fsum(classes.values())
    if total > 1 + _SLACK:
        raise OptionError(
            f"the shares of classes sum to {total:g}; they are parts of all crops, so lower them "
            "to 1, or below it to draw the rest from outside of these classes"
        )
    if REST in names:
        raise OptionError(f"a class cannot be called {REST!r}: that is what is left of the shares")
    rest = round(1 - total, 9) if total < 1 - _SLACK else 0.0
    return names, (rest, *map(float, classes.values()))


def _read_files(files: Mapping[Path, Path], cache: Cache) -> dict[Path, AnnotationFile]:
    """What each file holds, by the slide's path; all are read before any error is raised."""

    def read(path: Path) -> AnnotationFile | AnnotationError:
        try:
            return _read_file(path, cache)
        except AnnotationError as error:
            return error

    with ThreadPoolExecutor() as threads:
        answers = dict(zip(files, threads.map(read, files.values()), strict=True))
    errors = [str(answer) for answer in answers.values() if isinstance(answer, AnnotationError)]
    if errors:
        raise AnnotationError(
            f"{len(errors)} of {len(files)} annotation files cannot be used:\n  "
            + "\n  ".join(errors[:_SHOWN])
        )
    return {slide: a for slide, a in answers.items() if isinstance(a, AnnotationFile)}


def _read_file(path: Path, cache: Cache) -> AnnotationFile:
    """From the cache, or read and put there: parsing a large file takes seconds."""
    key = file_key(path, "annotated classes", _VERSION)
    if (data := cache.get(key)) is not None:
        kept = json.loads(data)
        return AnnotationFile(path, kept["digest"], kept["regions"])
    regions = Counter(region.class_name for region in read_annotations(path).regions)
    # Afterwards, so that a file which changes meanwhile is not taken for what was read.
    file = AnnotationFile(path, digest_of(path), dict(regions))
    cache.put(key, json.dumps({"digest": file.digest, "regions": file.regions}).encode())
    return file
