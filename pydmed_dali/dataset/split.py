"""Patients dealt to parts in given shares, label by label. Pure: the seed and the ids decide."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from numbers import Real

from pydmed_dali.dataset.patient import Label, Patient
from pydmed_dali.errors import DatasetError, OptionError
from pydmed_dali.text import shorten_list

logger = logging.getLogger("pydmed_dali.dataset")

_FINEST = 1_000_000  # a share is a ratio of whole numbers up to this: 0.7 is 7/10, not nearly so
_TOLERANCE = 1e-6


def read_shares(shares: Mapping[str, float]) -> dict[str, Fraction]:
    """Shares as exact ratios that add up to 1."""
    if not isinstance(shares, Mapping):
        raise OptionError(
            f"shares must name the parts, as {{'train': 0.8, 'test': 0.2}}, not {shares!r}"
        )
    for name, share in shares.items():
        if not isinstance(share, Real) or not 0 < share <= 1:
            raise OptionError(f"the share of {name!r} must be above 0 and at most 1, not {share!r}")
    total = math.fsum(shares.values())
    if abs(total - 1) > _TOLERANCE:
        raise OptionError(f"the shares {dict(shares)} add up to {total:g}; they must add up to 1")
    exact = {
        name: Fraction(float(share)).limit_denominator(_FINEST) for name, share in shares.items()
    }
    return {name: share / sum(exact.values()) for name, share in exact.items()}


def equal_shares(k: int) -> dict[str, Fraction]:
    """The shares of k parts of one size."""
    if not isinstance(k, int) or k < 2:
        raise OptionError(f"folds needs a whole number of at least 2 folds, not {k!r}")
    return {f"fold {number}": Fraction(1, k) for number in range(k)}


def deal(
    patients: Sequence[Patient], shares: Mapping[str, Fraction], seed: int
) -> dict[str, list[Patient]]:
    """The patients of each part; each patient is in exactly one."""
    if not isinstance(seed, int):
        raise OptionError(f"seed must be an int, not {seed!r}")
    strata: dict[Label | None, list[Patient]] = {}
    for patient in sorted(patients, key=lambda patient: _draw(seed, patient.id)):
        strata.setdefault(patient.label, []).append(patient)
    counts = _counts({label: len(members) for label, members in strata.items()}, shares)
    parts: dict[str, list[Patient]] = {name: [] for name in shares}
    for label, members in strata.items():
        start = 0
        for name in shares:
            parts[name] += members[start : start + counts[label][name]]
            start += counts[label][name]
    _check(parts, counts, len(patients))
    return parts


def _draw(seed: int, name: str) -> tuple[bytes, str]:
    """A place in the random order of the patients that no other patient has a say in."""
    text = f"{seed}/{name}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest(), name


def _counts(
    sizes: Mapping[Label | None, int], shares: Mapping[str, Fraction]
) -> dict[Label | None, dict[str, int]]:
    """How many patients of each label every part gets: its share, rounded up or down.

    What rounding down leaves over goes, label after label, to the parts that are furthest behind
    their share of all labels so far: Hamilton's method of the largest remainder, with the
    remainders carried on.
    """
    behind = dict.fromkeys(shares, Fraction(0))
    counts: dict[Label | None, dict[str, int]] = {}
    for label in sorted(sizes, key=lambda label: (isinstance(label, str), label)):
        exact = {name: sizes[label] * share for name, share in shares.items()}
        count = {name: math.floor(value) for name, value in exact.items()}
        for name in shares:
            behind[name] += exact[name] - count[name]
        rounded = [name for name in shares if exact[name] != count[name]]
        left = sizes[label] - sum(count.values())
        for name in sorted(rounded, key=lambda name: -behind[name])[:left]:
            count[name] += 1
            behind[name] -= 1
        counts[label] = count
    return counts


def _check(
    parts: Mapping[str, Sequence[Patient]],
    counts: Mapping[Label | None, Mapping[str, int]],
    patients: int,
) -> None:
    empty = [name for name, members in parts.items() if not members]
    if empty:
        raise DatasetError(
            f"{patients} patients are too few for {len(parts)} parts in these shares: "
            f"{shorten_list([repr(name) for name in empty])} would get none"
        )
    lacking = [
        f"{name!r} has none of the {sum(count.values())} with label {label!r}"
        for label, count in counts.items()
        for name in parts
        if not count[name]
    ]
    if lacking:
        logger.warning(
            "labels with few patients do not reach every part: %s", shorten_list(lacking)
        )
