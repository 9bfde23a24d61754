"""A slide that cannot be opened or read, or ends its readers, costs no other slide its results."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from pydmed_dali import Dataset, Slide
from pydmed_dali.errors import NoTilesError, SlideError
from pydmed_dali.infer import predict, slide_runner
from pydmed_dali.pool import worker_pool
from tests.faults.loaders import SLIDE as BAD_SLIDE
from tests.faults.loaders import EndsAtOpening, HasAHole, Misbehaving
from tests.integration.infer.three_slides import OPTIONS, SIZES, contents, means, write_three_slides


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_three_slides(tmp_path / "slides")


def test_a_slide_that_cannot_be_opened_is_told_and_tried_again(
    dataset: Dataset, tmp_path: Path
) -> None:
    broken = dataset.slides[1].path
    whole = broken.read_bytes()
    broken.write_bytes(b"no slide")
    done = predict(dataset, means, tmp_path / "out", **OPTIONS)
    assert list(done.slides_skipped) == [broken]
    assert [file.name for file in done.written] == ["a.h5", "c.h5"]
    again = predict(dataset, means, tmp_path / "out", **OPTIONS)
    assert (again.written, list(again.slides_skipped)) == ((), [broken])
    with pytest.raises(NoTilesError, match="OpenSlide cannot open it"):
        predict(dataset, means, tmp_path / "out", on_error="raise", **OPTIONS)
    alone = Dataset.from_table([{"slide": str(broken)}], root=broken.parent)
    with pytest.raises(NoTilesError, match="none of 1 slides can be read"):
        predict(alone, means, tmp_path / "alone", **OPTIONS)
    broken.write_bytes(whole)
    assert predict(dataset, means, tmp_path / "out", **OPTIONS).written[0].name == "b.h5"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_slide_that_goes_bad_on_the_way_costs_no_other(
    dataset: Dataset, tmp_path: Path, workers: int
) -> None:
    path = dataset.slides[0].path
    told: list[tuple[Path, Path]] = []
    options: dict[str, Any] = {**OPTIONS, "chunk_size": 64, "num_workers": workers}
    done = predict(
        dataset,
        means,
        tmp_path / "out",
        loader=HasAHole(),
        on_slide=lambda slide, file: told.append((slide, file)),
        **options,
    )
    assert list(done.slides_skipped) == [path]
    assert "a hole in the disk" in done.slides_skipped[path]
    assert [file.name for file in done.written] == ["b.h5", "c.h5"]
    assert told == list(zip([r.path for r in dataset.slides[1:]], done.written, strict=True))
    assert len(contents(done.written[1])["features"]) == 25
    with pytest.raises(SlideError, match="a hole in the disk"):
        predict(dataset, means, tmp_path / "no", loader=HasAHole(), on_error="raise", **options)


class Counts(HasAHole):
    """Counts how often each slide is opened."""

    def __init__(self) -> None:
        self.opened: Counter[str] = Counter()

    def open_slide(self, path: Path) -> Slide:
        self.opened[path.stem] += 1
        return super().open_slide(path)


def test_slides_are_looked_at_some_at_a_time(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slide_runner, "_TOGETHER", 2)
    loader = Counts()
    told: list[tuple[int, int]] = []
    options: dict[str, Any] = {**OPTIONS, "chunk_size": 64}
    done = predict(
        dataset,
        means,
        tmp_path / "out",
        loader=loader,
        progress=lambda *step: told.append(step),
        **options,
    )
    assert [file.name for file in done.written] == ["b.h5", "c.h5"]
    assert list(done.slides_skipped) == [dataset.slides[0].path]
    # a breaks after 4 of its tiles: 7 for a batch cannot be had. Then b, looked at anew, alone.
    assert loader.opened == {"a": 2, "b": 3, "c": 2}, "once to look, once to read"
    # Of b there is 1 tile; c, not looked at yet, is taken for (20 + 1 + 1) / 3.
    assert told[0] == (1, 1 + round(22 / 3)) and told[-1] == (26, 26)


@pytest.mark.parametrize("deed", ["raise", "sys.exit", "SIGKILL", "SIGSEGV", "hang"])
@pytest.mark.parametrize("place", ["opening", "reading"])
def test_a_slide_that_ends_its_readers_costs_no_other(
    coordinates: Dataset, tmp_path: Path, deed: str, place: str
) -> None:
    """At its opening that is in the survey, where its tiles are counted."""
    loader = Misbehaving(tmp_path, deed, place, always=True)
    options = {**OPTIONS, "num_workers": 2}
    done = predict(coordinates, means, tmp_path / "out", loader=loader, read_timeout=5, **options)
    (path,) = done.slides_skipped
    assert path.name == BAD_SLIDE
    assert {file.stem for file in done.written} == {f"slide-{n}" for n in (0, 1, 3, 4, 5)}
    words = "RuntimeError" if deed == "raise" else "2 workers ended while reading it"
    assert words in done.slides_skipped[path]


def test_a_slide_that_the_system_does_not_even_look_for_costs_no_other(
    dataset: Dataset, tmp_path: Path
) -> None:
    patient = dataset.patients[0]
    (record,) = patient.records
    long = replace(record, relative=PurePosixPath("x" * 300, "bad.tif"))
    bad = replace(patient, id="bad", records=(long,))
    both = Dataset((bad, *dataset.patients), dataset.classes)
    done = predict(both, means, tmp_path / "out", **OPTIONS)
    assert list(done.slides_skipped) == [long.path] and len(done.written) == len(SIZES)


def test_slides_that_end_their_readers_end_no_run_however_many(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "_MOST_DEATHS", 4)
    loader = EndsAtOpening("a", "c")
    options = {**OPTIONS, "num_workers": 1}
    done = predict(dataset, means, tmp_path / "out", loader=loader, **options)
    assert [file.name for file in done.written] == ["b.h5"]
    assert {path.stem for path in done.slides_skipped} == {"a", "c"}
    with pytest.raises(NoTilesError, match="2 workers ended while reading it"):
        predict(dataset, means, tmp_path / "no", loader=EndsAtOpening("a", "b", "c"), **options)
