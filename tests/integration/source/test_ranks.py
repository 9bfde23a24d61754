"""Which rank a source takes itself for, by what started the process, and what is said of it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from pydmed_dali import BigChunkSource, Dataset, InfoColumn, SmallChunkIterator, TileSource
from pydmed_dali.errors import OptionError, SourceError, StateError
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.source import ranks
from pydmed_dali.source.ranks import choose_rank
from tests.support import NAMES, SMALL_RUN, first, sum_up, take

VARIABLES = {name for _, *names in ranks._LAUNCHERS for name in names} | {"SLURM_NTASKS"}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2"}
RUN = {**SMALL_RUN, "num_workers": 0}


@pytest.fixture(autouse=True)
def by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher, and nothing was said yet."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    ranks._say.cache_clear()
    ranks._warn.cache_clear()


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    """torch.distributed, initialised for one process."""
    dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def set_all(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"WORLD_SIZE": "2"}, (0, 1)),  # a child of Lightning, before torch.distributed is ready
        (TORCHRUN, (1, 2)),
        ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4"}, (3, 4)),
        ({"PMI_RANK": "2", "PMI_SIZE": "3"}, (2, 3)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "8"}, (5, 8)),
        # A batch script, or a shell in an allocation: started once, whatever SLURM_NTASKS says.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"}, (0, 1)),
        # torchrun, started by srun once a node.
        (
            {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2", "RANK": "7", "WORLD_SIZE": "8"},
            (7, 8),
        ),
    ],
)
def test_the_launcher_tells_the_rank(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: tuple[int, int]
) -> None:
    set_all(monkeypatch, environment)
    assert choose_rank(None, None)[:2] == expected
    assert choose_rank(0, 1)[:2] == (0, 1), "what is given comes first"


@pytest.mark.usefixtures("group_of_one")
def test_torch_distributed_comes_before_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, TORCHRUN)
    found = choose_rank(None, None)
    assert found == (0, 1, "torch.distributed")


@pytest.mark.parametrize(
    ("environment", "given", "said"),
    [
        ({"RANK": "one", "WORLD_SIZE": "2"}, (None, None), "RANK='one' and WORLD_SIZE='2'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, (None, None), "no rank and number of processes"),
        (TORCHRUN, (0, None), "give both"),
        ({}, (None, 2), "give both"),
        ({}, (2, 2), "rank=2 does not exist among world_size=2"),
        ({}, ("0", 2), "rank must be an int of at least 0, not '0'"),
        ({}, (0, 0), "world_size must be an int of at least 1"),
    ],
)
def test_ranks_that_cannot_be_are_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], given: tuple[Any, Any], said: str
) -> None:
    set_all(monkeypatch, environment)
    with pytest.raises(OptionError, match=said):
        choose_rank(*given)


def test_sources_of_two_ranks_read_other_chunks(
    monkeypatch: pytest.MonkeyPatch, coordinates: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pydmed_dali.source")
    chunks, seeds = [], set()
    for rank in range(2):
        set_all(monkeypatch, {"RANK": str(rank), "WORLD_SIZE": "2"})
        for _ in range(2):  # training and validation: what is found is said once
            with BigChunkSource(coordinates, passes=1, **RUN) as source:
                found = sum_up(take(source, source.batches_per_epoch))["info"][:, InfoColumn.CHUNK]
                seeds.add(source.pipeline_options["seed"])
                report = source.report()
        chunks.append(set(found.tolist()))
        assert (report.rank, report.world_size) == (rank, 2)
        assert f"rank {rank} of 2 (torchrun or its like: RANK='{rank}'" in str(report)
        assert "nothing went wrong" in str(report)
    assert chunks == [{0, 2, 4}, {1, 3, 5}] and len(seeds) == 2
    said = [record.message for record in caplog.records if "this process is rank" in record.message]
    assert len(said) == 2 and "rank=0, world_size=1" in said[0]


def test_a_source_made_alone_on_purpose_has_everything(
    monkeypatch: pytest.MonkeyPatch, coordinates: Dataset
) -> None:
    set_all(monkeypatch, TORCHRUN)
    with BigChunkSource(coordinates, passes=1, rank=0, world_size=1, **RUN) as source:
        report, batches = source.report(), source.batches_per_epoch
    assert (report.rank, report.world_size, str(report)) == (0, 1, "nothing went wrong")
    assert batches == len(coordinates.slides)


def test_torch_distributed_that_comes_later_and_says_otherwise_is_no_silence(
    monkeypatch: pytest.MonkeyPatch, coordinates: Dataset, request: pytest.FixtureRequest
) -> None:
    set_all(monkeypatch, TORCHRUN)
    with (
        BigChunkSource(coordinates, **RUN) as early,
        BigChunkSource(coordinates, rank=1, world_size=2, **RUN) as given,
    ):
        loader = SmallChunkIterator(basic(early), NAMES)
        request.getfixturevalue("group_of_one")
        with pytest.raises(SourceError, match=r"made before torch\.distributed was initialised"):
            next(iter(loader))
        assert take(given, 1)


def test_a_tile_source_gives_every_rank_every_tile_and_says_so(
    monkeypatch: pytest.MonkeyPatch, coordinates: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    set_all(monkeypatch, TORCHRUN)
    options: dict[str, Any] = {"tile_size": 256, "batch_size": 8, "num_workers": 0}
    for _ in range(2):
        with TileSource(coordinates, **options) as source:
            assert len(source.tiles_per_slide) == len(coordinates.slides)
            assert source.report().rank == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "every tile of its dataset" in caplog.text
    caplog.clear()
    ranks._warn.cache_clear()
    with TileSource(coordinates, rank=1, world_size=2, **options):
        assert not caplog.records


def test_finding_a_rank_imports_no_torch() -> None:
    code = (
        "import sys; from pydmed_dali.source.ranks import choose_rank; choose_rank(None, None);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["False"]


@pytest.mark.usefixtures("group_of_one")
def test_a_state_of_all_ranks_gives_each_its_own(coordinates: Dataset) -> None:
    states, following = [], []
    for rank in range(2):
        with BigChunkSource(coordinates, rank=rank, world_size=2, **RUN) as source:
            loader = SmallChunkIterator(basic(source), NAMES, all_ranks=True)
            batches = first(loader, 10**9)
            for _ in range(rank + 2):
                next(batches)
            (own,) = loader.state_dict()["ranks"]  # of the group's one rank
            states.append(own)
            following.append(next(batches)["info"])
    for rank in range(2):
        with BigChunkSource(coordinates, rank=rank, world_size=2, **RUN) as source:
            loader = SmallChunkIterator(basic(source), NAMES)
            for wrong in ({"ranks": states[:1]}, {"ranks": states[::-1]}, {"ranks": 2}):
                with pytest.raises(StateError):
                    loader.load_state_dict(wrong)
            loader.load_state_dict({"ranks": states})
            assert torch.equal(next(first(loader, 1))["info"], following[rank])
