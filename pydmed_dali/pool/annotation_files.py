"""Annotations that a user brings along: which file is whose, and which class is which number."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pydmed_dali.annotation.class_names import (
    check_classes,
    check_exclusions,
    is_among,
    is_ignored,
    meant_by,
    refuse_unknown,
    warn_of_spellings,
)
from pydmed_dali.annotation.defaults import EXCLUSIONS, MOST_BYTES
from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import AnnotationError, OptionError
from pydmed_dali.plan.class_sampler import PERIOD
from pydmed_dali.pool.annotation_processes import read_files
from pydmed_dali.pool.companion_files import CompanionFiles, companion_files
from pydmed_dali.slide.frame import check_frame
from pydmed_dali.text import shorten_list
from pydmed_dali.worker.annotation_plan import REST, AnnotationFile, AnnotationPlan, ReadingRules

ANNOTATION_ENDINGS = (".geojson", ".json", ".xml")
"""Endings of the files that are looked for in a folder, in this order."""

Classes = Mapping[str, float] | Sequence[str]
"""Classes in the order of their numbers, from 1 on; with shares, crops are drawn by them."""

_SLACK = 1e-9  # of sums of shares, which are decimals
_SHOWN = 5

logger = logging.getLogger("pydmed_dali.pool")


def plan_annotations(
    dataset: Dataset,
    annotations: CompanionFiles | AnnotationPlan | None,
    classes: Classes | None,
    cache: Path | None,
    exclusions: Collection[str] = EXCLUSIONS,
    max_bytes: int = MOST_BYTES,
    frame: str = "auto",
) -> AnnotationPlan | None:
    """What a source's options ask for; None without annotations. Reads every annotation file.

    A plan that was made before, of these slides, is taken as it is. What is odd about classes and
    exclusions is warned of by logging, once for all files.

    Raises `OptionError` for options that cannot work, and `AnnotationError` for files that cannot
    be read or hold no region, and for classes that are in none of them.
    """
    if isinstance(annotations, AnnotationPlan):
        return annotations
    if annotations is None:
        _refuse_without_annotations(classes, exclusions)
        return None
    names, shares = _read_classes(classes)
    check_exclusions(exclusions, names or ())
    rules = ReadingRules(tuple(exclusions), _checked_bytes(max_bytes), check_frame(frame))
    files = _read_files(find_annotations(dataset, annotations), rules, cache)
    counts, excluded = Counter[str](), Counter[str]()
    for file in files.values():
        counts.update(file.regions)
        excluded.update(file.excluded)
    if names is None:
        names = _all_classes(counts)
        check_classes(names)
    refuse_unknown(names, counts)
    warn_of_spellings(names, counts)
    _warn_of_slides_without(names, files)
    _warn_of_unused(exclusions, [*excluded, *counts], excluded)
    _warn_of_camelyon(names, counts)
    _warn_of_excluded_rest(shares, excluded)
    return AnnotationPlan(files, names, shares, rules)


def _refuse_without_annotations(classes: Classes | None, exclusions: Collection[str]) -> None:
    given = "classes" if classes is not None else "exclusions"
    if classes is not None or tuple(exclusions) != EXCLUSIONS:
        raise OptionError(
            f"{given} are those of annotations: give annotations too, a folder of files or a "
            "function from a slide's path to its file"
        )


def _checked_bytes(max_bytes: int) -> int:
    if not isinstance(max_bytes, int) or isinstance(max_bytes, bool) or max_bytes < 1:
        raise OptionError(f"max_annotation_bytes must be an int of at least 1, not {max_bytes!r}")
    return max_bytes


def _all_classes(counts: Mapping[str, int]) -> tuple[str, ...]:
    """The classes where none are named: all but those that QuPath ignores."""
    ignored = [f"{name!r} ({counts[name]})" for name in sorted(counts) if is_ignored(name)]
    if ignored:
        logger.warning(
            "regions of these classes count as nothing, because QuPath ignores classes whose names "
            "end with *: %s; name them in classes to number them, or in exclusions to cut them out "
            "of all others",
            shorten_list(ignored),
        )
    names = tuple(sorted(name for name in counts if not is_ignored(name)))
    if not names:
        raise AnnotationError(
            f"all regions are of classes that QuPath ignores ({shorten_list(ignored)}); name "
            "those that are meant in classes"
        )
    return names


def _warn_of_slides_without(names: Sequence[str], files: Mapping[Path, AnnotationFile]) -> None:
    """Name the slides that have regions, but none of the classes."""
    told = []
    for slide, file in files.items():
        if not any(name in file.regions for name in names):
            near = [
                f"{name!r}, close to {n!r}" for name in file.regions if (n := meant_by(name, names))
            ]
            told.append(
                f"{slide} has {shorten_list(near or [repr(name) for name in file.regions])}"
            )
    if told:
        logger.warning(
            "%d of %d slides with annotations have no region of the classes %s, so everything on "
            "them counts as nothing: %s",
            *(
                len(told),
                len(files),
                shorten_list([repr(name) for name in names]),
                shorten_list(told),
            ),
        )


def _warn_of_unused(
    exclusions: Collection[str], present: Sequence[str], excluded: Collection[str]
) -> None:
    """Name the exclusions that a caller gave and that no file has."""
    if tuple(exclusions) == EXCLUSIONS:
        return
    unused = [name for name in exclusions if not is_among(name, excluded)]
    if unused:
        near = [
            f"{name!r} (close to {n!r})" if (n := meant_by(name, present)) else repr(name)
            for name in unused
        ]
        logger.warning("no annotation file has these exclusions: %s", shorten_list(near))


def _warn_of_excluded_rest(shares: Sequence[float], excluded: Collection[str]) -> None:
    """Say that crops outside all classes can lie in regions that were cut out of the classes."""
    if shares and shares[0] and excluded:
        logger.warning(
            "%.2g of the crops are sampled outside all classes, which can be in the excluded "
            "regions of %s: excluded regions are cut out of the classes alone; give the classes "
            "fractions that add up to 1 to sample nothing outside",
            shares[0],
            shorten_list([repr(name) for name in excluded]),
        )


def find_annotations(dataset: Dataset, annotations: CompanionFiles) -> dict[Path, Path]:
    """The annotation file of each slide that has one, by the slide's path.

    In a folder, that of `a/slide.svs` (below the dataset's folder) is `a/slide.geojson` or
    `a/slide.svs.geojson`, or such a file with another of `ANNOTATION_ENDINGS`. A function may give
    None. Slides without a file are warned of by logging. Raises `OptionError` where none has one.
    """
    found = companion_files(dataset, "annotations", annotations, ANNOTATION_ENDINGS)
    files = {slide: file for slide, file in found.items() if file is not None and file.is_file()}
    gone = [str(file) for slide, file in found.items() if file is not None and slide not in files]
    if gone and (callable(annotations) or not files):
        raise OptionError(
            f"annotations: {len(gone)} of {len(found)} slides have no annotation file; there is no "
            + shorten_list(gone)
            + ("; give None for a slide without annotations" if callable(annotations) else "")
        )
    if not files:
        raise OptionError("annotations returned None for every slide; omit the option")
    without = [str(slide) for slide in found if slide not in files]
    if without:
        logger.warning(
            "annotations: %d of %d slides have no annotation file, so nothing on them is of any "
            "class (%s)",
            *(len(without), len(found), shorten_list(without)),
        )
    return files


def _warn_of_camelyon(names: Sequence[str], counts: Collection[str]) -> None:
    """CAMELYON16 names its groups so, and its readme says that the last is to be left out."""
    tumour, left_out = {"_0", "_1"}, "_2"
    if left_out in counts and tumour & set(counts) and (tumour & set(names)):
        logger.warning(
            "the classes %s are those of CAMELYON16, in which regions of %r are to be cut out of "
            "the tumour; give exclusions=[%r] if these are its files",
            *(sorted({*tumour & set(counts), left_out}), left_out, left_out),
        )


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
            f"{shorten_list(wrong)}"
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


def _read_files(
    files: Mapping[Path, Path], rules: ReadingRules, cache: Path | None
) -> dict[Path, AnnotationFile]:
    """What each file holds, by the slide's path; all are read before any error is raised."""
    answers = read_files(list(dict.fromkeys(files.values())), rules, cache)
    errors = [str(answer) for answer in answers.values() if isinstance(answer, AnnotationError)]
    if errors:
        raise AnnotationError(
            f"{len(errors)} of {len(answers)} annotation files cannot be used:\n  "
            + "\n  ".join(errors[:_SHOWN])
        )
    found = {path: a for path, a in answers.items() if isinstance(a, AnnotationFile)}
    for file in found.values():
        for warning in file.warnings:
            logger.warning("%s", warning)
    return {slide: found[path] for slide, path in files.items()}
