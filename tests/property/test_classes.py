"""Sampling by class: whose turn it is, whom it takes, and which places are the class's."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import Polygon

from pydmed_dali import Annotation, Annotations
from pydmed_dali.annotation.spans import find_spans
from pydmed_dali.geometry import Point, Size
from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.class_sampler import PERIOD, ClassSampler, ClassSchedule
from pydmed_dali.plan.eligible import eligible_places
from pydmed_dali.plan.place_runs import Runs
from pydmed_dali.plan.placement import Placer, cell_borders
from tests.property.test_eligible import _as_places, masks, sizes
from tests.property.test_sampler import dataset_of

parts = st.lists(st.integers(0, 1000), min_size=1, max_size=6).filter(any)


@settings(max_examples=30)
@given(parts)
def test_after_any_number_of_visits_each_class_came_its_share_of_times_within_one(
    weights: list[int],
) -> None:
    shares = np.array(weights) / sum(weights)
    rota = ClassSchedule(shares.tolist())
    visits = 2 * PERIOD
    came: Counter[int] = Counter()
    worst = 0.0
    for visit in range(visits):
        number, before = rota.at(visit)
        assert before == came[number]
        came[number] += 1
        # shares are rounded to parts of the period, which rounds n visits by n of those at most
        wrong = abs(came[number] - shares[number] * (visit + 1))
        worst = max(worst, wrong - (visit + 1) / PERIOD)
    assert worst < 1
    assert all(abs(came[n] - share * visits) <= 2 for n, share in enumerate(shares))


def test_shares_of_round_numbers_are_exact_in_short_periods() -> None:
    rota = ClassSchedule([0.2, 0.5, 0.3])
    for start in (0, 1_000_000, 10**12):
        came = Counter(rota.at(start + visit)[0] for visit in range(10))
        assert came == {0: 2, 1: 5, 2: 3}


def test_the_far_future_is_known_at_once() -> None:
    assert sorted(ClassSchedule([0.25, 0.75]).at(4 * 10**15 + n)[0] for n in range(4)) == [
        0,
        1,
        1,
        1,
    ]
    assert {ClassSchedule([0.25, 0.75]).at(4 * 10**15 + n)[1] // 10**15 for n in range(4)} == {1, 3}


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from("abc"), min_size=2, max_size=12),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 1000),
    st.data(),
)
def test_every_rank_gets_its_share_of_classes_and_every_patient_of_a_class_its_turn(
    labels: list[str], slides: int, world_size: int, seed: int, data: st.DataObject
) -> None:
    dataset = dataset_of(labels, slides)
    everything = list(range(len(labels) * slides))
    having = [everything] + [
        data.draw(st.lists(st.sampled_from(everything), min_size=1, unique=True)) for _ in range(2)
    ]
    shares = [0.2, 0.5, 0.3]
    sampler = ClassSampler(dataset, shares, having, seed, 0, world_size)
    own: dict[int, Counter[int]] = defaultdict(Counter)
    patients: dict[int, Counter[int]] = defaultdict(Counter)
    for visit in range(20 * world_size):
        candidate = next(sampler.candidates(visit))
        assert candidate.slide in having[candidate.class_number]
        assert candidate.slide // slides == candidate.patient
        own[visit % world_size][candidate.class_number] += 1
        patients[candidate.class_number][candidate.patient] += 1
    assert all(own[rank] == {0: 4, 1: 10, 2: 6} for rank in range(world_size))
    for number, counts in patients.items():
        with_class = {slide // slides for slide in having[number]}
        times = [counts[patient] for patient in with_class]
        assert max(times) - min(times) <= 1


@settings(max_examples=30)
@given(st.integers(0, 200), st.integers(1, 3), st.integers(0, 100))
def test_stand_ins_are_for_the_same_class_and_reach_every_slide_that_has_it(
    visit: int, slides: int, seed: int
) -> None:
    labels = ["a", "a", "b", "a", "b"]
    having = [list(range(5 * slides)), list(range(0, 5 * slides, 2))]
    sampler = ClassSampler(dataset_of(labels, slides), [0.5, 0.5], having, seed)
    candidates = list(sampler.candidates(visit))
    label = labels[candidates[0].patient]
    assert len({c.class_number for c in candidates}) == 1
    open_to = [s for s in having[candidates[0].class_number] if labels[s // slides] == label]
    assert {c.slide for c in candidates} == set(open_to)


@st.composite
def places(draw: st.DrawFn) -> NDArray[np.bool_]:
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 40)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.random(shape) < draw(st.sampled_from([0.02, 0.3, 0.9, 1.0]))


def runs_of(open_places: NDArray[np.bool_]) -> Runs:
    edges = np.zeros((open_places.shape[0], open_places.shape[1] + 2), np.int8)
    edges[:, 1:-1] = open_places
    y, x = np.nonzero(edges[:, 1:] - edges[:, :-1])
    return Runs.of(y[::2], x[::2], x[1::2])


def drawn(runs: Runs, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """How often each place has a number."""
    named = np.zeros(shape, np.int64)
    np.add.at(named, tuple(runs.at(np.arange(runs.count)).T), 1)
    return named


@given(places(), st.integers(1, 9), st.integers(1, 9))
def test_the_numbers_of_runs_name_each_place_once_and_each_cell_by_its_places(
    open_places: NDArray[np.bool_], high: int, wide: int
) -> None:
    runs = runs_of(open_places)
    np.testing.assert_array_equal(drawn(runs, open_places.shape), open_places)
    rows = cell_borders(open_places.shape[0], 1, high, 1)
    columns = cell_borders(open_places.shape[1], 1, wide, 1)
    cells = [runs.cell_of(number, rows, columns) for number in range(runs.count)]
    assert cells == sorted(cells)
    for row in range(len(rows) - 1):
        for column in range(len(columns) - 1):
            origin = Point(int(columns[column]), int(rows[row]))
            size = Size(int(columns[column + 1]) - origin.x, int(rows[row + 1]) - origin.y)
            inside = runs.places_in(origin, size)
            assert inside.count == cells.count((row, column))
            part = open_places[origin.y :, origin.x :][: size.height, : size.width]
            np.testing.assert_array_equal(drawn(inside, part.shape), part)


@given(masks(), sizes, st.integers(1, 20), st.integers(0, 2**32), st.sampled_from([0.1, 0.6, 1]))
def test_runs_within_eligible_places_are_in_both(
    mask: NDArray[np.bool_], extent: Size, crop: int, seed: int, share: float
) -> None:
    eligible = eligible_places(mask, extent, Size(crop, crop), 0.3)
    tissue = _as_places(eligible)
    open_places = np.random.default_rng(seed).random(tissue.shape) < share
    both = runs_of(open_places).within(eligible)
    np.testing.assert_array_equal(drawn(both, tissue.shape), tissue & open_places)


def test_every_place_of_a_class_is_equally_likely() -> None:
    """A chi-square test of crop starts over coarse squares of a class with a hole in it."""
    outline = [(80.3, 60.2), (930.7, 30.4), (800.1, 650.8), (200.6, 600.9)]
    hole = [(400.2, 200.1), (600.4, 220.3), (500.3, 400.7)]
    drawn_on = Annotations(Path("x"), (Annotation("tumor", (Polygon(outline, [hole]),)),))
    extent, crop = Size(1000, 700), Size(100, 80)
    xs = np.arange(extent.width - crop.width + 1, dtype=np.float64) + (crop.width // 2 + 0.5)
    ys = np.arange(extent.height - crop.height + 1, dtype=np.float64) + (crop.height // 2 + 0.5)
    spans = find_spans(drawn_on.table, ["tumor"], xs, ys)
    runs, placer = Runs.of(*spans.of_class(1)), Placer(3, Size(300, 256), crop)
    starts = []
    for turn in range(3000):
        candidate = Candidate(0, 0, turn, 0, 1)
        place = placer.place(extent, Size(64, 64), candidate, turn, runs)
        crops = placer.crops(place, candidate, turn, count=4)
        starts.append(crops + np.array((place.origin.y, place.origin.x)))
    y, x = np.concatenate(starts).T
    inside = spans.to_mask() == 1
    assert inside[y, x].all()
    edges = (np.arange(0, 651, 50), np.arange(0, 951, 50))
    open_y, open_x = np.nonzero(inside)
    area = np.histogram2d(open_y, open_x, bins=edges)[0]
    counts = np.histogram2d(y, x, bins=edges)[0]
    expected = len(y) * area / area.sum()
    judged = expected >= 20
    statistic = ((counts - expected)[judged] ** 2 / expected[judged]).sum()
    assert judged.sum() == 172
    # 233 is the 0.1% point of chi-square with 171 degrees of freedom, for free draws. The four
    # crops of a chunk share its cell, but the chunks cover the class more evenly than free draws.
    assert statistic < 233
