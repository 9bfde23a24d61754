"""Crops per second out of resident chunks, where the ring lies on a GPU, and what limits them.

    .venv/bin/python -m benchmarks.gpu_crop --part residency     # each residency, batch and ring
    .venv/bin/python -m benchmarks.gpu_crop --part limits        # a bare gather, and bandwidth
    .venv/bin/python -m benchmarks.gpu_crop --part loaders       # against decoding tiles, OpenSlide

Each part takes a few minutes. `--device cpu` runs all of it without a GPU; give small sizes then.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import nvidia.dali
import openslide
from nvidia.dali import fn, types
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from benchmarks.card import print_head, print_header, print_row
from benchmarks.flat_slides import FlatLoader, flat_dataset
from benchmarks.gather import copy_bandwidth, gather_rate, upload_bandwidth
from pydmed_dali import BigChunkSource, Dataset, Size
from pydmed_dali.measure.openslide_crops import openslide_loader
from pydmed_dali.measure.stopwatch import time_batches
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.synthetic.tissue_slides import TISSUES, write_tissue_slide

NAMES = ["image", "label", "info"]
SELDOM = 2**17  # crops of a chunk, so that loading is not what is measured
GIB = 2**30
WITHIN, ACROSS = "read and written within the memory", "brought to the card"


def crops(source: BigChunkSource) -> Iterator[int]:
    """Crops of each batch, complete in torch's memory."""
    iterator = DALIGenericIterator([basic(source)], NAMES, size=-1)
    return (len(batch["image"]) for (batch,) in iterator)


def open_source(wishes: Any, dataset: Dataset, **options: Any) -> BigChunkSource:
    return BigChunkSource(
        dataset,
        chunk_size=wishes.chunk,
        crop_size=wishes.crop,
        num_workers=wishes.workers,
        device=wishes.device,
        **options,
    )


def settings(wishes: Any) -> list[tuple[int, int]]:
    """(batch, resident): each batch size at the middle ring, then the other rings."""
    middle = wishes.resident[len(wishes.resident) // 2]
    usual = wishes.batch[len(wishes.batch) // 2]
    rings = [(usual, resident) for resident in wishes.resident if resident != middle]
    return [(batch, middle) for batch in wishes.batch] + rings


def print_residencies(wishes: Any) -> None:
    """Also tells whether a batch costs more with a larger ring, as a hidden copy would."""
    bandwidths = print_bandwidths(wishes)
    residencies = ["host"] if wishes.device == "cpu" else ["device", "mapped", "host"]
    print_header(
        "residency", "batch", "resident", "ring GiB", "crops/s", "ms a batch", "share of the copy"
    )
    for residency in residencies:
        for batch, resident in settings(wishes):
            cells = (residency, batch, resident)
            try:
                rate, ring = residency_rate(wishes, residency, batch, resident)
            except Exception as error:  # the others are worth having
                print_row(*cells, "-", f"{type(error).__name__}: {error}"[:200], "-", "-")
                continue
            crossing = wishes.device == "gpu" and residency != "device"
            share = share_of(bandwidths, rate, wishes.crop, crossing)
            ms = 1000 * batch / rate
            print_row(*cells, f"{ring / GIB:.2f}", f"{rate:,.0f}", f"{ms:.2f}", share)


def print_bandwidths(wishes: Any) -> dict[str, float]:
    """Bytes a second of plain copies, by kind; without those that fail."""
    found: dict[str, float] = {}
    for kind in (WITHIN, ACROSS) if wishes.device == "gpu" else (WITHIN,):
        try:
            if kind == WITHIN:
                found[kind] = copy_bandwidth(wishes.device, wishes.copy_bytes, wishes.seconds)
            else:
                found[kind] = upload_bandwidth(wishes.copy_bytes, wishes.seconds)
            print(f"{kind} by a plain copy: {found[kind] / 1e9:,.1f} GB/s")
        except Exception as error:  # crops are worth measuring all the same
            print(f"{kind} by a plain copy: {type(error).__name__}: {error}")
    print(flush=True)
    return found


def share_of(bandwidths: dict[str, float], rate: float, side: int, crossing: bool) -> str:
    """Of the copy that moves a crop's bytes: to the card once, or within memory twice."""
    kind = ACROSS if crossing else WITHIN
    moved = rate * 3 * side**2 * (1 if crossing else 2)
    return f"{moved / bandwidths[kind]:.1%}" if kind in bandwidths else "-"


def residency_rate(wishes: Any, residency: str, batch: int, resident: int) -> tuple[float, int]:
    """(crops a second, bytes of the ring)."""
    options = {"batch_size": batch, "resident": resident, "crops_per_chunk": SELDOM}
    with open_source(
        wishes, flat_dataset(), residency=residency, loader=FlatLoader(),
        gpu_memory_share=0.9, **options,
    ) as source:  # fmt: skip
        rate = time_batches(crops(source), wishes.seconds).crops_per_second
        return rate, source._engine.ring.layout.pixel_bytes


def print_limits(wishes: Any) -> None:
    bandwidths = print_bandwidths(wishes)
    print_header("bare gather: batch", "resident", "crops/s", "share of the copy")
    side, chunk = wishes.crop, Size.of(wishes.chunk, "chunk")
    for batch, resident in settings(wishes):
        try:
            rate = gather_rate(
                wishes.device, resident, chunk, Size.of(side, "crop"), batch, wishes.seconds
            )
        except Exception as error:
            print_row(batch, resident, f"not measured: {type(error).__name__}: {error}"[:200], "-")
            continue
        share = share_of(bandwidths, rate, side, crossing=False)
        print_row(batch, resident, f"{rate:,.0f}", share)


def print_loaders(wishes: Any, folder: Path) -> None:
    dataset = make_slides(folder, wishes.slide)
    paths = [record.path for record in dataset.slides]
    batch = wishes.batch[len(wishes.batch) // 2]
    print_header("loader", "crops/s")
    crop = Size.of(wishes.crop, "crop")
    workers = max(wishes.workers, 1)
    loader = (len(b) for b in openslide_loader(paths, crop, batch, workers))
    rate = time_batches(loader, wishes.seconds).crops_per_second
    print_row(f"torch DataLoader + OpenSlide, {workers} workers, on the CPU", f"{rate:,.0f}")
    del loader
    kind = "mixed" if wishes.device == "gpu" else "cpu"
    try:
        tiles = decoded_tiles(cut_tiles(paths, wishes.crop), batch, wishes.device, workers)
        rate = time_batches(tiles, wishes.seconds).crops_per_second
        print_row(f"DALI decoding of tiles cut beforehand ({kind})", f"{rate:,.0f}")
    except Exception as error:
        print_row(f"DALI decoding of tiles ({kind})", f"{type(error).__name__}: {error}"[:200])
    for per_chunk in wishes.crops_per_chunk:
        with open_source(
            wishes, dataset, batch_size=batch, resident=wishes.resident[0],
            crops_per_chunk=per_chunk,
        ) as source:  # fmt: skip
            rate = time_batches(crops(source), wishes.seconds).crops_per_second
            name = f"pydmed-dali, {source.residency}, {per_chunk} crops a chunk, {workers} workers"
            print_row(name, f"{rate:,.0f}")


def make_slides(folder: Path, side: int) -> Dataset:
    for number, tissue in enumerate(TISSUES):
        write_tissue_slide(folder / f"{tissue}.svs", Size(side, side), tissue=tissue, seed=number)
    return Dataset.from_folder(folder, label=lambda path: path.stem)


def cut_tiles(paths: list[Path], side: int, count: int = 512) -> list[np.ndarray[Any, Any]]:
    """JPEG tiles at random places, as a tiling pass would have left them."""
    rng, tiles = np.random.default_rng(0), []
    for number in range(count):
        with openslide.OpenSlide(paths[number % len(paths)]) as slide:
            x, y = (int(rng.integers(max(whole - side, 0) + 1)) for whole in slide.dimensions)
            image = np.asarray(slide.read_region((x, y), 0, (side, side)).convert("RGB"))
        tiles.append(np.frombuffer(imagecodecs.jpeg8_encode(image, level=80), np.uint8))
    return tiles


def decoded_tiles(
    tiles: list[np.ndarray[Any, Any]], batch: int, device: str, threads: int
) -> Iterator[int]:
    """Batches of decoded tiles; the files are in memory already."""
    rng = np.random.default_rng(1)
    options: dict[str, Any] = {"batch_size": batch, "num_threads": threads}
    options["device_id"] = 0 if device == "gpu" else None

    @nvidia.dali.pipeline_def(**options)
    def decode() -> Any:
        files = fn.external_source(
            source=lambda: [tiles[i] for i in rng.integers(len(tiles), size=batch)], batch=True
        )
        kind = "mixed" if device == "gpu" else "cpu"
        return fn.decoders.image(files, device=kind, output_type=types.RGB)

    iterator = DALIGenericIterator([decode()], ["image"], size=-1)
    return (len(found["image"]) for (found,) in iterator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("residency", "limits", "loaders"), default="residency")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256, 512, 1024, 2048])
    parser.add_argument("--resident", type=int, nargs="+", default=[8, 64, 256])
    parser.add_argument("--crops-per-chunk", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--chunk", type=int, default=4096)
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--slide", type=int, default=8192, help="side of the synthetic slides")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each timed run")
    parser.add_argument("--copy-bytes", type=int, default=GIB)
    wishes = parser.parse_args()
    print_head("benchmarks.gpu_crop", wishes.device)
    if wishes.part == "residency":
        print_residencies(wishes)
    elif wishes.part == "limits":
        print_limits(wishes)
    else:
        with tempfile.TemporaryDirectory() as folder:
            print_loaders(wishes, Path(folder))


if __name__ == "__main__":
    main()
