"""What the benchmarks count, draw and print is right; that they run is tested beside."""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentParser
from contextlib import closing
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.accounting import content, grid_chunks, read_content, touched_pixels
from benchmarks.contenders import PEERS, Contender, contenders, lacking, run
from benchmarks.crop_dataset import CropDataset
from benchmarks.measure import Round
from benchmarks.peers.openslide_reads import OpenSlideCrops
from benchmarks.peers.torch_window import TorchWindow, Window
from benchmarks.places import LEAST_TISSUE, draw_places, slide_files
from benchmarks.slides import ROOT, link_slides
from benchmarks.suite import play
from benchmarks.table import WHOLE_TARGETS, ratios, table
from benchmarks.tissue import TissueMask
from benchmarks.workload import Workload, add_options
from pydmed_dali import Size
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide

CROP = 64


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small slides."""
    folder = tmp_path_factory.mktemp("slides")
    for number, tissue in enumerate(("gland", "tumor")):
        write_tissue_slide(folder / f"{tissue}.svs", Size(800, 700), tissue=tissue, seed=number)
    return folder


def workload(slides: Path, **options: Any) -> Workload:
    settings = {"crop": CROP, "batch": 32, "chunk": 256, "resident": 4, "workers": 0}
    return Workload(slides, **{**settings, **options})


def test_a_peer_that_is_not_installed_is_named_in_the_table(slides: Path) -> None:
    absent = Contender("cucim_reads", "cuCIM", needs=("no_such_package",))
    reason = lacking(absent)
    assert reason is not None and reason.startswith("no_such_package not installed")
    found, missing = play([absent], workload(slides), rounds=2)
    assert (found, missing) == ({}, {absent: reason})
    assert f"not run: {reason}" in table(found, missing, [absent])[-1]


def test_a_peer_that_fails_is_named_with_its_reason(slides: Path) -> None:
    outcome = run(Contender("no_such_peer", "?"), workload(slides))
    assert isinstance(outcome, str) and "no_such_peer" in outcome


@pytest.mark.parametrize(
    "peer", ["openslide_reads", "cucim_reads", "tiffslide_reads"], ids=lambda peer: peer
)
def test_a_peer_reads_the_crop_at_its_place(peer: str, slides: Path) -> None:
    (contender,) = [one for one in PEERS if one.peer == peer]
    for package in contender.needs:
        pytest.importorskip(package)
    module = import_module(f"benchmarks.peers.{peer}")
    (kind,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, CropDataset) and value is not CropDataset
    ]
    files = slide_files(workload(slides))
    data = kind(files, draw_places(files, CROP, seed=0, count=5), CROP)
    for number in range(5):
        image, (slide, x, y) = data[number][0].numpy(), data[number][1].tolist()
        with openslide.OpenSlide(files[slide].path) as reference:
            expected = reference.read_region((x, y), 0, (CROP, CROP)).convert("RGB")
        np.testing.assert_array_equal(image, np.asarray(expected))
    for handle in data._open.values():
        handle.close()


def test_monai_reads_the_crop_at_its_place(slides: Path) -> None:
    pytest.importorskip("monai")
    pytest.importorskip("cucim")
    code = """
import sys, numpy as np, openslide
from pathlib import Path
from benchmarks.peers.monai_patches import MonaiLoader
from benchmarks.workload import Workload
loader = MonaiLoader(Workload(Path(sys.argv[1]), crop=64, batch=4, workers=0))
loader.start()
images, (paths, places) = next(iter(loader))
for image, path, (y, x) in zip(images, paths, places.tolist(), strict=True):
    expected = openslide.OpenSlide(path).read_region((x, y), 0, (64, 64)).convert("RGB")
    assert np.array_equal(image.numpy(), np.asarray(expected))
"""  # in a process of its own: importing MONAI warns, and warnings are errors here
    command = [sys.executable, "-c", code, str(slides)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_window_without_dali_cuts_the_pixels_that_it_names(slides: Path) -> None:
    """Each crop lies somewhere in the chunk that its trace names."""
    load = workload(slides, crops_per_chunk=8)
    files = slide_files(load)
    with closing(iter(Window(load, files, draw_places(files, CROP, seed=0)))) as batches:
        taken = list(islice(batches, 4))
    for images, chunks, _, _ in taken:
        image, (slide, x, y) = images[0].numpy(), chunks[0].tolist()
        with openslide.OpenSlide(files[slide].path) as reference:
            whole = np.asarray(reference.read_region((x, y), 0, (256, 256)).convert("RGB"))
        windows = sliding_window_view(whole, (CROP, CROP, 3))[:, :, 0]
        first = np.argwhere((windows[:, :, 0, 0] == image[0, 0]).all(axis=-1))
        assert any(np.array_equal(windows[row, column], image) for row, column in first)


def test_the_window_without_dali_reads_a_chunk_for_every_so_many_crops(slides: Path) -> None:
    load = workload(slides, crops_per_chunk=32, chunk=512)
    files = slide_files(load)
    with closing(iter(Window(load, files, draw_places(files, CROP, seed=0)))) as batches:
        taken = list(islice(batches, 33))
    found = TorchWindow(load).content([trace for _, *trace in taken])
    # 32 batches of 32 crops read 32 chunks, of which 32 crops of 64 pixels touch almost every tile
    assert found.amplification is not None
    assert 0.6 < found.amplification / (512**2 / (32 * CROP**2)) < 1.3


def test_a_workload_survives_the_command_line(slides: Path) -> None:
    parser = ArgumentParser()
    add_options(parser)
    given = Workload(slides, tiles=slides, tissue=True, seconds=0.25, seed=7)
    assert Workload.from_arguments(parser.parse_args(given.arguments())) == given


def test_places_are_uniform_over_slides_and_inside_them(slides: Path) -> None:
    places = draw_places(slide_files(workload(slides)), CROP, seed=1, count=20_000)
    assert abs((places[:, 0] == 0).mean() - 0.5) < 0.02
    assert places[:, 1:].min() == 0
    assert places[:, 1:].max(axis=0).tolist() == [800 - CROP, 700 - CROP]
    assert np.abs(places[:, 1:].mean(axis=0) - [(800 - CROP) / 2, (700 - CROP) / 2]).max() < 8


def test_places_on_tissue_are_uniform_over_what_is_eligible(slides: Path) -> None:
    half = np.zeros((7, 8), np.bool_)
    half[:, 4:] = True  # tissue from x = 400 on

    def mask(_: Path) -> TissueMask:
        return TissueMask(half, (100.0, 100.0))

    files = slide_files(workload(slides, tissue=True), mask)
    places = draw_places(files, CROP, seed=1, count=20_000)
    assert LEAST_TISSUE == 0.5 and places[:, 1].min() == 400 - CROP // 2
    assert abs(places[:, 1].mean() - (400 - CROP // 2 + 800 - CROP) / 2) < 5


def test_a_slide_without_tissue_is_refused(slides: Path) -> None:
    none = TissueMask(np.zeros((7, 8), np.bool_), (100.0, 100.0))
    files = slide_files(workload(slides, tissue=True), lambda _: none)
    with pytest.raises(ValueError, match=r"gland\.svs.*no place for a crop of 64 pixels on tissue"):
        draw_places(files, CROP, seed=0, count=10)


def test_a_mask_tells_shares_across_the_borders_of_cells() -> None:
    cells = np.random.default_rng(0).random((6, 5)) < 0.5
    mask = TissueMask(cells, (10.0, 10.0))
    full = np.kron(cells, np.ones((10, 10)))
    x, y = np.random.default_rng(1).integers(0, 50 - 23, (2, 50))
    expected = [full[b : b + 23, a : a + 23].mean() for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(mask.shares(x, y, 23), expected)


def test_a_crop_decodes_the_tiles_that_it_touches() -> None:
    x, y = np.array([0, 33, 255, 256]), np.array([0, 0, 255, 300])
    # of 256-pixel tiles a 224-pixel crop touches 1, 2 (one pixel over), 4 and 2
    assert touched_pixels(x, y, 224, Size(256, 256)) == (1 + 2 + 4 + 4 - 2) * 256**2


def test_pairs_and_slides_of_a_batch_are_counted() -> None:
    chunks = np.array([[0, 0, 0]] * 3 + [[0, 256, 0]] * 2 + [[1, 0, 0]])
    found = content([chunks], None)
    assert (found.pairs, found.slides) == (3 + 1, 2)
    places = np.array([[0, 255, 256]])
    assert grid_chunks(places, 256).tolist() == [[0, 0, 256]]


def test_the_content_of_single_reads(slides: Path) -> None:
    found = read_content(
        slide_files(workload(slides)), [np.array([[0, 0, 0], [1, 250, 0]])], workload(slides)
    )
    assert found.amplification == 3 * 256**2 / (2 * CROP**2)


def test_ratios_are_set_beside_their_targets() -> None:
    def one(rate: float) -> list[Round]:
        return [Round(rate, 1.0, 0.0, content([np.zeros((2, 3), np.int64)], None), 1, 1.0, 1.0)]

    order = contenders([512], [512], ["openslide_reads", "torch_window", "this_project"])
    rounds = dict(zip(order, [one(1000), one(10_000), one(15_000)], strict=True))
    lines = ratios(rounds, {512: WHOLE_TARGETS[512]})
    assert "15.00x (target 13x, met)" in lines[2]
    assert "1.50x (target 1.8x, NOT met)" in lines[3]


def test_many_slides_are_links(slides: Path, tmp_path: Path) -> None:
    link_slides(sorted(slides.iterdir()), tmp_path / "links", 5)
    assert len(slide_files(workload(tmp_path / "links"))) == 5
    assert issubclass(OpenSlideCrops, torch.utils.data.Dataset)
