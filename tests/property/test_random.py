"""Random numbers follow from their key alone, and never change: resumed runs depend on it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pydmed_dali.plan.random import Stream, mix, permutation, uniform

words = st.integers(-(2**63), 2**63 - 1)


@given(key=st.lists(words, min_size=1, max_size=6), arrays=st.lists(st.booleans(), min_size=6))
def test_a_word_counts_alike_by_itself_and_in_an_array(key: list[int], arrays: list[bool]) -> None:
    mixed = [
        np.array([word], np.int64) if as_array else word
        for word, as_array in zip(key, arrays, strict=False)
    ]
    assert mix(*mixed).tolist() == mix(*key).tolist()


def test_what_a_key_gives_is_what_it_always_gave() -> None:
    assert mix(0).tolist() == [16294208416658607535]
    assert mix(1, Stream.CROPS, -2).tolist() == [3912488923962749954]
    assert permutation(6, 7, Stream.SLIDES).tolist() == [5, 0, 1, 4, 2, 3]
    assert uniform(3, np.arange(2)).tolist() == [0.36818951565166946, 0.5267179955718279]
