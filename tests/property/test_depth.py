"""Slices: every crop lies in its slab and its volume, and every place is as likely."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.depth import Depth


@given(
    slices=st.integers(1, 200),
    crop=st.integers(1, 40),
    more=st.integers(0, 60),
    visit=st.integers(0, 2**40),
    seed=st.integers(0, 2**40),
)
def test_crops_lie_in_their_slab_and_volume(
    slices: int, crop: int, more: int, visit: int, seed: int
) -> None:
    depth = Depth(crop + more, crop)
    candidate = Candidate(0, 0, 0, 0)
    slab = depth.place(slices, seed, candidate, visit)
    starts = depth.crops(slab, seed, candidate, visit, 50)
    assert starts.min() >= 0
    assert starts.max() + crop <= depth.chunk
    assert slab.first + starts.max() + crop <= max(slices, crop)


def test_every_slice_is_as_likely_to_begin_a_crop() -> None:
    depth, candidate, counts = Depth(24, 10), Candidate(0, 0, 0, 0), np.zeros(61)
    for visit in range(4000):
        slab = depth.place(70, 5, candidate, visit)
        starts = depth.crops(slab, 5, candidate, visit, 4)
        np.add.at(counts, slab.first + starts, 1)
    expected = counts.sum() / len(counts)
    # Four crops of a visit share a slab of 15 or 16 places: so much more do counts differ.
    assert abs(counts - expected).max() < 6 * np.sqrt(expected)
