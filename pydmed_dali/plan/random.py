"""Random numbers as a pure function of their key: the same on every machine and in any order."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1

Words = NDArray[np.uint64]


class Stream(IntEnum):
    """What a random number is used for: the first word of a key after the seed."""

    STRATA = 1
    DEALING = 2
    PATIENTS = 3
    SLIDES = 4
    LOCATION = 5
    CROPS = 6
    SUBSTITUTES = 7
    QUOTAS = 8
    OWN_CODE = 9
    CLASSES = 12
    DEPTH = 13
    DEPTH_CROPS = 14


def mix(*key: int | NDArray[np.integer]) -> Words:
    """64 random bits for each key; integers and integer arrays are broadcast together.

    The finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014), applied word after word. numpy's generators are not used because
    their streams may change between numpy versions, and a resumed run must not.
    """
    state: Any = 0  # in Python's integers up to the first array: numpy takes ten times as long
    for word in key:
        word = word & _WORD if isinstance(word, int) else np.atleast_1d(word).astype(np.uint64)
        state = _finalize(((state + _GOLDEN) & _WORD) ^ word)
    return np.atleast_1d(np.asarray(state, np.uint64))


def uniform(*key: int | NDArray[np.integer]) -> NDArray[np.float64]:
    """A number in [0, 1) for each key, with 53 random bits."""
    return (mix(*key) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(length: int, *key: int) -> NDArray[np.int64]:
    """0..length-1 in a random order given by the key."""
    return np.argsort(mix(*key, np.arange(length)), kind="stable")


def _finalize(bits: Any) -> Any:
    """Of an integer below 2^64, or an array of uint64."""
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _WORD
    return bits ^ (bits >> 31)
