"""What `plan` promises of a set of options is what the options do."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from pydmed_dali import (
    BigChunkLoader,
    BigChunkSource,
    Dataset,
    InfoColumn,
    Patient,
    Point,
    Record,
    Size,
    Slide,
)
from pydmed_dali.dali.device import core_count
from pydmed_dali.errors import OptionError
from pydmed_dali.geometry import Region
from pydmed_dali.measure import costs as costs_module
from pydmed_dali.measure.advice import REUSES, Advice, PlanRequest, advise
from pydmed_dali.measure.costs import TYPICAL, Costs, _Trial, measure_costs
from pydmed_dali.measure.forecast import Setting, SlideKind, forecast
from pydmed_dali.measure.stopwatch import Timing
from pydmed_dali.slide.view import View
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide
from tests.support import sum_up, take

KIND = SlideKind(Size(60_000, 50_000), Size(256, 256))
GIB = 2**30


def names_only(slides: int) -> Dataset:
    names = [f"{number:04}.svs" for number in range(slides)]
    return Dataset(tuple(Patient(n, (Record(Path("/none"), PurePosixPath(n)),)) for n in names))


def asked(memory: float = 4.0, wanted: float | None = None, cores: int = 4) -> Advice:
    wishes = PlanRequest(Size(224, 224), 256, int(memory * GIB), cores, wanted)
    return advise(wishes, TYPICAL, KIND, names_only(100))


def test_the_more_crops_of_a_chunk_the_faster_and_the_less_is_decoded() -> None:
    options = asked().options
    assert [option.setting.crops_per_chunk for option in options] == list(REUSES)
    speeds = [option.crops_per_second for option in options]
    assert speeds == sorted(speeds) and speeds[-1] > 5 * speeds[0]
    decoded = [option.decode_amplification for option in options]
    assert decoded == sorted(decoded, reverse=True)
    assert options[0].limit in ("reading", "cores")
    assert asked(cores=2).options[-1].limit == "cropping"


@pytest.mark.parametrize(("cores", "efficiency"), [(2, 0.8), (32, TYPICAL.efficiency)])
def test_a_thread_that_crops_alone_tells_nothing_of_the_readers(
    monkeypatch: pytest.MonkeyPatch, cores: int, efficiency: float
) -> None:
    """On many cores one thread that crops is the limit of a timed run, and most cores idle."""
    crop, chunk = 50e-6, {32: 0.015, 512: 0.05}

    def trial(dataset: Dataset, options: dict[str, Any], seconds: float) -> _Trial:
        count = options["crops_per_chunk"]
        per_second = min(0.8 * cores / (chunk[count] / count + crop), 1 / crop)
        crops = round(per_second * seconds)
        own, theirs = crops * crop, crops * chunk[count] / count
        timing = Timing(crops, crops / per_second, own, theirs)
        interval = count / per_second
        return _Trial(timing, count, chunk[count], count / 10, interval, 0.0, 1.0)

    monkeypatch.setattr(costs_module, "_trial", trial)
    monkeypatch.setattr(costs_module, "core_count", lambda: cores)
    found, _ = measure_costs(names_only(3), {}, seconds=5.0)
    assert found.efficiency == pytest.approx(efficiency, rel=0.01)
    assert found.storage_chunk == 0


def test_a_wanted_speed_is_reached_with_the_fewest_crops_per_chunk() -> None:
    advice = asked(wanted=9_000)
    assert advice.reaches and advice.chosen.crops_per_second >= 9_000
    slower = [o for o in advice.options if o.setting.crops_per_chunk < _reuse(advice)]
    assert slower and all(option.crops_per_second < 9_000 for option in slower)
    unreached = asked(wanted=1e9)
    assert not unreached.reaches
    assert unreached.chosen.crops_per_second > 9_000


@pytest.mark.parametrize("memory", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("storage", [0.0, 0.05, 0.5])
def test_without_a_speed_the_row_is_chosen_that_shows_new_pixels_and_repeats_few(
    memory: float, storage: float
) -> None:
    wishes = PlanRequest(Size(224, 224), 256, int(memory * GIB), 4, None)
    costs = replace(TYPICAL, storage_chunk=storage)
    advice = advise(wishes, costs, KIND, names_only(100))
    new = [option.new_megapixels_per_second for option in advice.options]
    place = advice.options.index(advice.chosen)
    assert new[place] >= 0.9 * max(new)
    assert all(found < 0.9 * max(new) for found in new[:place])
    assert place < len(REUSES) - 1, "the least varied row shows the same pixels again and again"


def test_new_pixels_are_those_that_no_crop_of_the_chunk_showed_before() -> None:
    """Counted on a mask, of crops at random places of many chunks."""
    setting = Setting(Size(400, 300), Size(50, 50), 8, 4, 30, 1)
    found = forecast(setting, TYPICAL, SlideKind(Size(4000, 3000), Size(64, 64)), names_only(9), 2)
    rng, new = np.random.default_rng(1), []
    for _ in range(200):
        mask = np.zeros((300, 400), bool)
        for x, y in rng.integers(
            (400, 300), size=(30, 2)
        ).tolist():  # round the edges, as on tissue
            rows, columns = np.arange(y, y + 50) % 300, np.arange(x, x + 50) % 400
            mask[np.ix_(rows, columns)] = True
        new.append(mask.sum() / 30)
    per_crop = found.new_megapixels_per_second * 1e6 / found.crops_per_second
    assert per_crop == pytest.approx(np.mean(new), rel=0.02)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (None, r"show new pixels as fast as any row, within 10%\..* --crops-per-second"),
        (2000, r"^Chosen: the fewest crops per chunk that reach 2,000 crops/s\.$"),
        (1e9, r"crops/s are not reached\. Chosen: the fewest .* within 3% of the highest speed"),
    ],
)
def test_the_rule_of_a_choice_is_told(wanted: float | None, words: str) -> None:
    assert re.search(words, asked(wanted=wanted).why)


def _reuse(advice: Advice) -> int:
    return advice.chosen.setting.crops_per_chunk


@pytest.mark.parametrize("memory", [0.3, 0.7, 2.0, 50.0])
def test_the_ring_fits_the_memory(memory: float) -> None:
    for option in asked(memory).options:
        assert option.memory_bytes <= memory * GIB
        assert option.setting.chunk.width >= 2 * 224


def test_too_little_memory_is_refused_with_what_is_needed() -> None:
    with pytest.raises(OptionError, match=r"0\.01 GiB hold no ring .* the smallest needs 0\.\d\d"):
        asked(0.01)


def test_decoding_and_mixing_are_as_forecast(tmp_path: Path) -> None:
    for number in range(6):
        write_coordinate_slide(tmp_path / f"{number}.tif", Size(2048, 1536), levels=1)
    dataset = Dataset.from_folder(tmp_path)
    setting = Setting(Size(1024, 1024), Size(100, 100), 32, 4, 12, 1)
    found = forecast(setting, TYPICAL, SlideKind(Size(2048, 1536), Size(256, 256)), dataset, 2)
    with BigChunkSource(
        dataset, chunk_size=1024, crop_size=100, batch_size=32, resident=4, crops_per_chunk=12,
        num_workers=0,
    ) as source:  # fmt: skip
        info = sum_up(take(source, 60))["info"].reshape(60, 32, len(InfoColumn))[10:]
        stats, ring = source.stats(), source._engine.ring.layout.pixel_bytes
    read = stats.decode_amplification * stats.crops / (12 * stats.chunks_read)
    assert found.decode_amplification == pytest.approx(read, rel=0.2)
    slides = [len(np.unique(batch[:, InfoColumn.SLIDE])) for batch in info]
    assert found.slides_per_batch == pytest.approx(np.mean(slides), rel=0.15)
    pairs = [
        sum(n * (n - 1) for n in np.unique(batch[:, InfoColumn.CHUNK], return_counts=True)[1])
        for batch in info
    ]
    assert found.same_chunk_pairs == pytest.approx(np.mean(pairs) / (32 * 31), rel=0.15)
    assert setting.ring_bytes == pytest.approx(ring, rel=0.01)
    assert ring < found.memory_bytes < ring + 5 * 32 * 100 * 100 * 3


def test_costs_are_measured_by_real_runs(tmp_path: Path) -> None:
    for number in range(3):
        write_coordinate_slide(tmp_path / f"{number}.tif", Size(1500, 1500), levels=1)
    options = {"chunk_size": 512, "crop_size": 64, "batch_size": 32, "resident": 4}
    costs, share = measure_costs(Dataset.from_folder(tmp_path), options, seconds=0.3)
    assert share == 1.0
    assert costs.megapixel > 0 and costs.chunk >= 0 and costs.crop > 0
    assert 0 < costs.efficiency <= 1


class OnASlowDisk(BigChunkLoader):
    """Each chunk comes late, and takes no core meanwhile."""

    def extract_bigchunk(
        self, slide: Slide, view: View, origin: Point, out: Any, parts: Sequence[Region]
    ) -> None:
        time.sleep(0.2)
        super().extract_bigchunk(slide, view, origin, out, parts)


def test_storage_that_is_waited_for_is_told_from_cores_that_are_too_few(tmp_path: Path) -> None:
    for number in range(3):
        write_coordinate_slide(tmp_path / f"{number}.tif", Size(1500, 1500), levels=1)
    options = {"chunk_size": 512, "crop_size": 64, "batch_size": 32, "resident": 4}
    dataset = Dataset.from_folder(tmp_path)
    costs, _ = measure_costs(dataset, {**options, "loader": OnASlowDisk()}, seconds=0.8)
    kind = SlideKind(Size(1500, 1500), Size(256, 256))
    found = {}
    for reuse in (32, 64, 100_000):
        setting = Setting(Size(512, 512), Size(64, 64), 32, 4, reuse, core_count())
        found[reuse] = forecast(setting, costs, kind, dataset, core_count())
    assert [found[reuse].limit for reuse in (32, 64)] == ["storage", "storage"]
    assert found[100_000].limit != "storage"
    assert found[32].crops_per_second == pytest.approx(32 * core_count() / 0.2, rel=0.35)
    # What chunks cost the cores is found all the same.
    assert 0 < costs.chunk + costs.megapixel < 0.1 and 0.5 < costs.efficiency <= 1


def test_where_storage_is_waited_for_all_cores_read() -> None:
    slow = replace(TYPICAL, storage_chunk=0.5)
    wishes = PlanRequest(Size(224, 224), 256, 4 * GIB, 4, None)
    options = advise(wishes, slow, KIND, names_only(100)).options
    limited = [option for option in options if option.limit == "storage"]
    assert limited and {option.setting.num_workers for option in limited} == {4}
    speeds = [option.crops_per_second for option in limited]
    reuses = [option.setting.crops_per_chunk for option in limited]
    assert speeds == pytest.approx([reuse / 0.5 for reuse in reuses])


def test_half_of_the_cost_is_twice_the_speed() -> None:
    halved = Costs(TYPICAL.chunk / 2, TYPICAL.megapixel / 2, TYPICAL.crop / 2, TYPICAL.efficiency)
    setting = Setting(Size(4096, 4096), Size(224, 224), 256, 16, 512, 2)
    slow, fast = (forecast(setting, c, KIND, names_only(9), 2) for c in (TYPICAL, halved))
    assert fast.crops_per_second == pytest.approx(2 * slow.crops_per_second)
