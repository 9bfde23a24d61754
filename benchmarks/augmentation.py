"""What each block of augmentation costs per crop, against the crop by itself.

    .venv/bin/python -m benchmarks.augmentation [--rounds 5] [--device cpu] [--slides FOLDER]

Crops of 224x224 in batches of 64 from resident chunks of synthetic tissue that are never replaced,
uint8 out of DALI, one DALI thread. Pipelines take turns, because the machine's speed drifts; each
figure is a median over the rounds. A row holds the crop too, larger for `rotate` and views,
but for that of torch, which works on crops that lie there.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import torch
from nvidia.dali import Pipeline, fn
from nvidia.dali.data_node import DataNode

from pydmed_dali import BigChunkSource, Dataset, InfoColumn, ReinhardStain, Size, pipeline_def
from pydmed_dali.dali.device import choose_device
from pydmed_dali.pipelines import augment
from pydmed_dali.pipelines.elastic import displace, elastic_field
from pydmed_dali.pipelines.multi_scale import reduced
from pydmed_dali.slide.stain import MACENKO_REFERENCE
from pydmed_dali.synthetic.tissue_slides import TISSUES, write_tissue_slide

CROP, CHUNK = 224, 1024
NEVER_REPLACED = 2**20
Block = Callable[[DataNode], DataNode]

BARE = "bare crop"
LARGER = augment.crop_size_to_rotate(CROP)
BLOCKS: dict[str, Block] = {
    BARE: lambda image: image,
    "turn": augment.turn,
    "cutout": augment.cutout,
    "jpeg": augment.jpeg,
    "colour_jitter": augment.colour_jitter,
    "stain_jitter": augment.stain_jitter,
    "blur": augment.blur,
    "rotate": lambda image: augment.rotate(image, LARGER, CROP),
    "noise": augment.noise,
    "turn, stain_jitter, colour_jitter": lambda image: augment.colour_jitter(
        augment.stain_jitter(augment.turn(image))
    ),
    "global view of self_supervised, resized from 384": lambda image: fn.random_resized_crop(
        image, size=[CROP, CROP], random_area=[0.32, 1.0]
    ),
    "coarse view of multi_scale, the mean of 896": lambda image: reduced(image, CROP, 4, 4),
}
REINHARD = ReinhardStain((8.3, -0.1, 0.03), (0.5, 0.1, 0.02))
NORMALISED: dict[str, Callable[[DataNode, DataNode | None], DataNode]] = {
    "macenko": lambda image, stain: augment.macenko(image, stain, MACENKO_REFERENCE),
    "reinhard": lambda image, stain: augment.reinhard(image, stain, REINHARD),
}
ELASTIC = "elastic_field, displace: in torch, one thread"
CROP_SIZES = {
    "rotate": LARGER,
    "global view of self_supervised, resized from 384": 384,
    "coarse view of multi_scale, the mean of 896": 4 * CROP,
}


@pipeline_def(enable_conditionals=True)
def augmented(source: BigChunkSource, name: str) -> tuple[DataNode, ...]:
    crops = source.small_chunks()
    if name in NORMALISED:
        image = NORMALISED[name](crops.image, crops.stain)
    else:
        image = BLOCKS[name](crops.image)
    return image, crops.label, crops.info


def open_source(dataset: Dataset, name: str, device: str, batch_size: int) -> BigChunkSource:
    return BigChunkSource(
        dataset,
        chunk_size=CHUNK,
        crop_size=CROP_SIZES.get(name, CROP),
        batch_size=batch_size,
        resident=4,
        crops_per_chunk=NEVER_REPLACED,
        num_workers=0,
        device=device,
        stain_statistics=name if name in NORMALISED else None,
    )


def seconds_per_batch(pipeline: Pipeline, batches: int) -> float:
    begun = time.perf_counter()
    for _ in range(batches):
        pipeline.run()
    return (time.perf_counter() - begun) / batches


def elastic_seconds(device: str, batch_size: int, batches: int) -> float:
    """Of a batch that lies on the device already."""
    place = torch.device(device.replace("gpu", "cuda"))
    images = torch.rand(batch_size, 3, CROP, CROP, device=place)
    info = torch.arange(batch_size * len(InfoColumn)).view(batch_size, len(InfoColumn))
    begun = time.perf_counter()
    for _ in range(batches):
        displace(images, elastic_field(info, CROP, device=place))
    if place.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begun) / batches


def measure(
    dataset: Dataset, device: str, batch_size: int, rounds: int, batches: int
) -> dict[str, list[float]]:
    """Microseconds per crop of every pipeline, in each round."""
    found: dict[str, list[float]] = {name: [] for name in [*BLOCKS, *NORMALISED, ELASTIC]}
    with ExitStack() as stack:
        pipelines = {}
        for name in [*BLOCKS, *NORMALISED]:
            source = stack.enter_context(open_source(dataset, name, device, batch_size))
            pipelines[name] = augmented(source, name, num_threads=1)
            seconds_per_batch(pipelines[name], 2)
        for _ in range(rounds):
            for name, pipeline in pipelines.items():
                found[name].append(seconds_per_batch(pipeline, batches) / batch_size * 1e6)
            found[ELASTIC].append(elastic_seconds(device, batch_size, batches) / batch_size * 1e6)
    return found


def print_table(found: dict[str, list[float]], device: str) -> None:
    bare = statistics.median(found[BARE])
    cores = len(os.sched_getaffinity(0))
    print(f"{date.today()}, {cores} cores, {platform.machine()}, device {device}, one DALI thread")
    print("command: .venv/bin/python -m benchmarks.augmentation\n")
    print("| block | us per crop | range | against the bare crop |\n|---|---|---|---|")
    for name, times in found.items():
        middle = statistics.median(times)
        span = f"{min(times):,.0f}-{max(times):,.0f}"
        print(f"| {name} | {middle:,.0f} | {span} | {middle / bare:.1f}x |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=10, help="batches of each timing")
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu")
    parser.add_argument("--slides", type=Path, help="a folder of slides, instead of synthetic ones")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        slides = arguments.slides or write_slides(Path(folder))
        found = measure(
            Dataset.from_folder(slides),
            device,
            arguments.batch_size,
            arguments.rounds,
            arguments.batches,
        )
    print_table(found, device)


def write_slides(folder: Path) -> Path:
    for number, tissue in enumerate(TISSUES):
        write_tissue_slide(folder / f"{tissue}.svs", Size(2048, 2048), tissue=tissue, seed=number)
    return folder


if __name__ == "__main__":
    main()
