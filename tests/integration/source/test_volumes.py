"""Volumes: crops of three dimensions, exact to the voxel, through the whole pipeline."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as typed_nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pydmed_dali import (
    BigChunkSource,
    Dataset,
    InfoColumn,
    NiftiLoader,
    PixelFormat,
    Size,
    SmallChunkIterator,
)
from pydmed_dali.dali.residency import RINGS
from pydmed_dali.errors import (
    OptionError,
    PydmedError,
    SlideFormatError,
    SlideReadError,
    StateError,
)
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.pipelines.volumes import volumes
from pydmed_dali.slide.nifti_volume import NiftiVolume
from pydmed_dali.slide.slide import Slide
from tests.staged_host import staged_host_ring

nibabel: Any = typed_nibabel  # only some of it has annotations

NAMES = ["image", "label", "info"]
SHAPES = [(61, 47, 37), (90, 30, 20), (33, 64, 64)]
"""(x, y, z): with chunks of 40x32x24, several of them along each axis, and fewer."""
CODES = PixelFormat(1, "int32")
OPTIONS: dict[str, Any] = {
    "chunk_size": Size(40, 32),
    "chunk_depth": 24,
    "crop_size": Size(20, 18),
    "crop_depth": 12,
    "batch_size": 16,
    "resident": 3,
    "crops_per_chunk": 10,
}


def codes(shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Each voxel tells its place, as z * 2^16 + y * 2^8 + x + 1."""
    x, y, z = np.indices(shape[:3], np.int32)
    found: NDArray[np.int32] = (z << 16) + (y << 8) + x + 1
    return found


def write(path: Path, voxels: NDArray[Any]) -> Path:
    image = nibabel.Nifti1Image(voxels, np.diag([0.5, 0.75, 2.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def dataset_of(*paths: Path) -> Dataset:
    rows = [{"slide": str(path), "patient": path.name} for path in paths]
    return Dataset.from_table(rows, root="/")


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("volumes")
    names = ("a.nii", "b.nii.gz", "c.nii")
    return dataset_of(*(write(folder / n, codes(s)) for n, s in zip(names, SHAPES, strict=True)))


def take(dataset: Dataset, batches: int, loader: NiftiLoader, **options: Any) -> dict[str, Any]:
    with BigChunkSource(dataset, loader=loader, **{**OPTIONS, **options}) as source:
        found = []
        for batch in SmallChunkIterator(basic(source), NAMES, batches_per_epoch=batches):
            found.append({name: tensor.cpu().numpy().copy() for name, tensor in batch.items()})
    return {name: np.concatenate([each[name] for each in found]) for name in NAMES}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("resident", [3, 40])  # of 40, several slots form one image
def test_every_voxel_is_the_one_that_info_names(
    coded: Dataset, workers: int, resident: int
) -> None:
    got = take(coded, 30, NiftiLoader(CODES), num_workers=workers, resident=resident, seed=3)
    check_codes(got)


def test_a_ring_out_of_the_workers_reach_has_the_same_voxels(
    coded: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = take(coded, 12, NiftiLoader(CODES), num_workers=2)
    monkeypatch.setitem(RINGS, "host", staged_host_ring)
    staged = take(coded, 12, NiftiLoader(CODES), num_workers=1)
    check_codes(staged)
    for name in NAMES:
        np.testing.assert_array_equal(plain[name], staged[name])


def check_codes(got: dict[str, Any]) -> None:
    assert got["image"].shape[1:] == (12, 18, 20, 1)
    whole = codes((128, 128, 128))
    seen = set()
    for image, row in zip(got["image"], got["info"], strict=True):
        x, y, z, slide = (
            int(row[c]) for c in (InfoColumn.X, InfoColumn.Y, InfoColumn.Z, InfoColumn.SLIDE)
        )
        wanted = whole[x : x + 20, y : y + 18, z : z + 12].transpose(2, 1, 0)[..., None]
        np.testing.assert_array_equal(image, wanted)
        assert (x + 20, y + 18, z + 12) <= SHAPES[slide]
        assert row[InfoColumn.DEPTH] == 12 and row[InfoColumn.CHUNK_DEPTH] == 24
        assert row[InfoColumn.CHUNK_Z] <= z <= row[InfoColumn.CHUNK_Z] + 12
        seen.add(slide)
    assert seen == {0, 1, 2}
    assert (got["info"][:, InfoColumn.MPP_PM] == 500_000_000).all(), "half a millimetre in x"


def test_crops_lie_anywhere_in_depth(coded: Dataset) -> None:
    got = take(coded, 120, NiftiLoader(CODES), num_workers=0, crops_per_chunk=4)
    rows = got["info"][got["info"][:, InfoColumn.SLIDE] == 0]
    counts = np.bincount(rows[:, InfoColumn.Z], minlength=26)
    assert len(counts) == 26 and counts.min() > 0, "37 slices have 26 places for 12"
    halves = counts[:13].sum() / counts.sum()
    assert 0.4 < halves < 0.6


def test_a_resumed_run_goes_on_to_the_voxel(coded: Dataset) -> None:
    def run(state: Any, workers: int) -> tuple[list[torch.Tensor], Any]:
        loader = NiftiLoader(CODES)
        with BigChunkSource(coded, loader=loader, num_workers=workers, **OPTIONS) as source:
            batches = SmallChunkIterator(volumes(source), NAMES, batches_per_epoch=12)
            if state:
                batches.load_state_dict(state)
            found, middle = [], None
            for number, batch in enumerate(batches):
                found.append(batch["image"].clone())
                if number == 4:
                    middle = batches.state_dict()
            return found, middle

    whole, state = run(None, 2)
    rest, _ = run(state, 0)
    assert len(rest) == 7
    for one, other in zip(whole[5:], rest, strict=True):
        assert torch.equal(one, other)
    with (
        BigChunkSource(coded, loader=NiftiLoader(CODES), **{**OPTIONS, "crop_depth": 8}) as source,
        pytest.raises(StateError, match=r"depth: .*12 of 24"),
    ):
        SmallChunkIterator(volumes(source), NAMES, batches_per_epoch=12).load_state_dict(state)


def test_a_real_volume_is_what_nibabel_reads(real_slides: Path) -> None:
    path = real_slides / "anatomical.nii"
    whole = np.asarray(nibabel.load(path).dataobj).astype(np.float32)
    options = {"chunk_size": 24, "chunk_depth": 20, "crop_size": 16, "crop_depth": 10}
    got = take(dataset_of(path), 4, NiftiLoader(), **options)
    assert got["image"].dtype == np.float32
    for image, row in zip(got["image"], got["info"], strict=True):
        x, y, z = (int(row[column]) for column in (InfoColumn.X, InfoColumn.Y, InfoColumn.Z))
        wanted = whole[x : x + 16, y : y + 16, z : z + 10].transpose(2, 1, 0)
        np.testing.assert_array_equal(image[..., 0], wanted)


def test_a_volume_smaller_than_a_crop_goes_on_in_zeros(tmp_path: Path) -> None:
    voxels = codes((15, 40, 7))
    path = write(tmp_path / "small.nii", voxels)
    got = take(dataset_of(path), 2, NiftiLoader(CODES))
    for image, row in zip(got["image"], got["info"], strict=True):
        assert (row[InfoColumn.X], row[InfoColumn.Z]) == (0, 0)
        inside = voxels[:, row[InfoColumn.Y] : row[InfoColumn.Y] + 18].transpose(2, 1, 0)
        np.testing.assert_array_equal(image[:7, :, :15, 0], inside)
        assert not image[7:].any() and not image[:, :, 15:].any()


def test_channels_are_the_fourth_axis_and_scales_are_applied(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    voxels = rng.integers(-100, 100, (40, 40, 30, 2)).astype(np.int16)
    image = nibabel.Nifti1Image(voxels, np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "two.nii")
    whole = np.asarray(nibabel.load(tmp_path / "two.nii").dataobj).astype(np.float32)
    data = dataset_of(tmp_path / "two.nii")
    got = take(data, 2, NiftiLoader(PixelFormat(2, "float32")))
    assert not np.array_equal(whole, voxels)
    for crop, row in zip(got["image"], got["info"], strict=True):
        x, y, z = (int(row[column]) for column in (InfoColumn.X, InfoColumn.Y, InfoColumn.Z))
        wanted = whole[x : x + 20, y : y + 18, z : z + 12].transpose(2, 1, 0, 3)
        np.testing.assert_array_equal(crop, wanted)
    with pytest.raises(PydmedError, match=r"scaled by 0.5 and 10.* ask NiftiLoader for float32"):
        take(data, 1, NiftiLoader(PixelFormat(2, "int16")))
    with pytest.raises(PydmedError, match=r"\(40, 40, 30, 2\), where .* 1 channels"):
        take(data, 1, NiftiLoader())


def test_a_damaged_volume_is_skipped_and_reported(coded: Dataset, tmp_path: Path) -> None:
    whole = coded.slides[0].path.read_bytes()
    bad, short = tmp_path / "bad.nii", tmp_path / "short.nii"
    bad.write_bytes(whole[:300])
    short.write_bytes(whole[: len(whole) // 2])
    dataset = dataset_of(bad, short, *(record.path for record in coded.slides))
    with BigChunkSource(dataset, loader=NiftiLoader(CODES), **OPTIONS) as source:
        for batch in SmallChunkIterator(basic(source), NAMES, batches_per_epoch=10):
            paths = {crop.record.path for crop in source.describe(batch["info"])}
            assert not paths & {bad, short}
        report = source.report()
    assert "nibabel cannot open it" in report.slides_skipped[bad]
    assert "by its header it has 424,668" in report.slides_skipped[short]


DIM, PIXDIM = 40, 76
"""Where a header of NIfTI-1 has its sizes, 8 int16, and its spacing, 8 float32."""


def patched(path: Path, at: int, value: Any) -> bytes:
    """The file with the third number of what begins at byte `at`, that of y, written anew."""
    data, value = bytearray(path.read_bytes()), np.asarray(value)
    begin = at + 2 * value.itemsize
    data[begin : begin + value.itemsize] = value.tobytes()
    return bytes(data)


@pytest.mark.parametrize("spacing", [np.nan, np.inf, 1e30, 1e-30])
def test_a_spacing_that_nothing_has_is_as_none(tmp_path: Path, spacing: float) -> None:
    path = write(tmp_path / "a.nii", codes(SHAPES[0]))
    path.write_bytes(patched(path, PIXDIM, np.float32(spacing)))
    got = take(dataset_of(path), 2, NiftiLoader(CODES))
    assert not got["info"][:, InfoColumn.MPP_PM].any()
    x, y, z = (int(got["info"][0, c]) for c in (InfoColumn.X, InfoColumn.Y, InfoColumn.Z))
    assert got["image"][0, 0, 0, 0, 0] == codes(SHAPES[0])[x, y, z]


def skipped_because(coded: Dataset, bad: Path, loader: NiftiLoader) -> str:
    """Train on a bad file and good ones: the reason for which it was left out."""
    with BigChunkSource(
        dataset_of(bad, *(record.path for record in coded.slides)), loader=loader, **OPTIONS
    ) as source:
        for batch in SmallChunkIterator(basic(source), NAMES, batches_per_epoch=6):
            assert bad not in {crop.record.path for crop in source.describe(batch["info"])}
        return source.report().slides_skipped[bad]


@pytest.mark.parametrize("side", [0, -1, -300])
def test_a_header_that_claims_no_voxels_is_refused(
    coded: Dataset, tmp_path: Path, side: int
) -> None:
    bad = tmp_path / "bad.nii"
    bad.write_bytes(patched(coded.slides[0].path, DIM, np.int16(side)))
    assert f"61, {side}, 37" in skipped_because(coded, bad, NiftiLoader(CODES))


@pytest.mark.parametrize("kind", ["complex64", [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_voxels_that_are_no_real_numbers_are_refused(
    coded: Dataset, tmp_path: Path, kind: Any
) -> None:
    bad = write(tmp_path / "bad.nii", np.ones((40, 40, 30), kind))
    assert "integers or real numbers" in skipped_because(coded, bad, NiftiLoader())


def _claiming(data: bytes, side: int) -> bytes:
    """The file, whose header claims so many voxels along each axis."""
    sides = np.array([side] * 3, np.int16).tobytes()
    return data[:42] + sides + data[48:]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda packed: packed[:-8] + bytes(8), "CRC"),
        (lambda packed: packed[: len(packed) // 2], "ended before the end-of-stream"),
        (lambda packed: gzip.compress(gzip.decompress(packed)[:-1]), "by its header it has"),
        (
            lambda packed: gzip.compress(gzip.decompress(packed) + bytes(2**20 + 1)),
            "more than the 216,352 bytes that it has by its header",
        ),
        (
            lambda packed: gzip.compress(_claiming(gzip.decompress(packed), 700)),
            "the header is damaged",
        ),
        (
            lambda packed: gzip.compress(_claiming(gzip.decompress(packed), 32_000)),
            "at most 4,294,967,296 are taken into memory",
        ),
    ],
)
def test_a_compressed_volume_is_checked_to_its_end(
    coded: Dataset, tmp_path: Path, damage: Callable[[bytes], bytes], words: str
) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(damage(coded.slides[1].path.read_bytes()))
    assert words in skipped_because(coded, bad, NiftiLoader(CODES))


def test_a_small_file_that_unpacks_to_much_takes_no_memory(tmp_path: Path) -> None:
    """256 MiB of zeros behind the voxels, in 256 KiB: 1,000 times as much as the file has."""
    bad = write(tmp_path / "bad.nii.gz", codes((40, 40, 30)))
    bad.write_bytes(gzip.compress(gzip.decompress(bad.read_bytes()) + bytes(2**28)))
    tracemalloc.start()
    try:
        with pytest.raises(SlideFormatError, match="it unpacks to more than"):
            NiftiVolume(bad, CODES)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("behind", [b"", bytes(2**20)])
def test_the_limit_of_what_is_unpacked_is_an_option(tmp_path: Path, behind: bytes) -> None:
    path = write(tmp_path / "a.nii.gz", codes((40, 40, 30)))
    plain = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(plain + behind))
    NiftiLoader(CODES, max_unpacked_bytes=len(plain)).open_slide(path).close()
    with pytest.raises(SlideFormatError, match=rf"unpacks to {len(plain):,} bytes, and at most"):
        NiftiLoader(CODES, max_unpacked_bytes=len(plain) - 1).open_slide(path)
    with pytest.raises(OptionError, match="max_unpacked_bytes must be positive"):
        NiftiLoader(max_unpacked_bytes=0)


class EmptyVolumes(NiftiLoader):
    """Says of one volume that it has no slices."""

    def open_slide(self, path: Path) -> Slide:
        slide = super().open_slide(path)
        if path.name == "empty.nii":
            assert isinstance(slide, NiftiVolume)
            slide.depth = 0
        return slide


def test_a_volume_of_an_own_loader_without_slices_is_refused(tmp_path: Path) -> None:
    bad = write(tmp_path / "empty.nii", codes((40, 40, 30)))
    with pytest.raises(PydmedError, match="it says it has 0 slices"):
        take(dataset_of(bad), 1, EmptyVolumes(CODES))


def test_other_formats_that_nibabel_knows_are_refused(coded: Dataset, tmp_path: Path) -> None:
    image = nibabel.Nifti1Pair(codes((40, 40, 30)), np.eye(4))
    nibabel.save(image, tmp_path / "pair.hdr")
    reason = skipped_because(coded, tmp_path / "pair.hdr", NiftiLoader(CODES))
    assert "it is Nifti1Pair to nibabel, where .nii or .nii.gz" in reason


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_2_and_either_order_of_bytes(tmp_path: Path, name: str, order: str) -> None:
    voxels = codes(SHAPES[0])
    image = nibabel.Nifti2Image(voxels.astype(f"{order}i4"), np.eye(4))
    image = nibabel.Nifti2Image(voxels, np.eye(4), image.header.as_byteswapped(order))
    nibabel.save(image, tmp_path / name)
    got = take(dataset_of(tmp_path / name), 2, NiftiLoader(CODES))
    for crop, row in zip(got["image"], got["info"], strict=True):
        x, y, z = (int(row[c]) for c in (InfoColumn.X, InfoColumn.Y, InfoColumn.Z))
        wanted = voxels[x : x + 20, y : y + 18, z : z + 12].transpose(2, 1, 0)[..., None]
        np.testing.assert_array_equal(crop, wanted)


def test_describe_tells_the_slices(coded: Dataset) -> None:
    with BigChunkSource(coded, loader=NiftiLoader(CODES), **OPTIONS) as source:
        batch = next(iter(SmallChunkIterator(basic(source), NAMES, batches_per_epoch=1)))
        crop = source.describe(batch["info"])[0]
    assert (crop.first_slice, crop.depth) == (int(batch["info"][0, InfoColumn.Z]), 12)
    assert crop.mpp == 500.0


def test_the_pipeline_gives_normal_voxels_and_keeps_what_it_does_not_augment(
    coded: Dataset,
) -> None:
    def image(**options: Any) -> torch.Tensor:
        with BigChunkSource(coded, loader=NiftiLoader(CODES), **OPTIONS) as source:
            pipeline = volumes(source, **options)
            batches = SmallChunkIterator(pipeline, NAMES, batches_per_epoch=1)
            return next(iter(batches))["image"].clone()

    plain = image(augment=False)
    assert plain.shape == (16, 1, 12, 18, 20) and plain.dtype == torch.float32
    scaled = image(augment=False, mean=100.0, std=50.0)
    torch.testing.assert_close(scaled, (plain - 100) / 50)
    augmented = image(noise=0.0, std=1e6)
    for one, other in zip(plain / 1e6, augmented, strict=True):
        turned = [
            torch.flip(one, [axis + 1 for axis in range(3) if bits >> axis & 1])
            for bits in range(8)
        ]
        # Contrast and brightness are a straight line, which correlates as 1 with what it came from.
        related = [
            float(torch.corrcoef(torch.stack([t.flatten(), other.flatten()]))[0, 1]) for t in turned
        ]
        assert max(related) > 0.9999


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop_depth": 30}, "crop_depth=30 does not fit in chunk_depth=24"),
        ({"crop_depth": 0}, "crop_depth must be an int of at least 1"),
        ({"crop_depth": None}, "give a crop_depth too"),
        ({"min_tissue": 0.5, "loader": None}, "min_tissue is for slides"),
        ({"masks": lambda path: None}, "annotations and masks are for slides"),
    ],
)
def test_options_that_cannot_work_are_refused(
    coded: Dataset, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        BigChunkSource(coded, **{**OPTIONS, "loader": NiftiLoader(CODES), **options})


def test_slides_and_volumes_are_told_apart(coded: Dataset, coordinates: Dataset) -> None:
    with (
        BigChunkSource(coordinates, **OPTIONS) as source,
        pytest.raises(PydmedError, match="it has no slices, and crop_depth=12 was asked for"),
    ):
        next(iter(SmallChunkIterator(basic(source), NAMES, batches_per_epoch=1)))
    flat: dict[str, Any] = {"chunk_size": 30, "crop_size": 18, "batch_size": 16}
    with (
        BigChunkSource(coded, loader=NiftiLoader(CODES), **flat) as source,
        pytest.raises(SlideReadError, match="is a volume: give the source a crop_depth"),
    ):
        next(iter(SmallChunkIterator(basic(source), NAMES, batches_per_epoch=1)))
