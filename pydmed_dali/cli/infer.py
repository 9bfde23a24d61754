"""`pydmed-dali infer`: a model over every tile of slides, with a picture of each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pydmed_dali.cli.preview import dataset_of
from pydmed_dali.dali.device import choose_device
from pydmed_dali.geometry import Size
from pydmed_dali.infer.heatmap import heatmap
from pydmed_dali.infer.model_trial import try_model
from pydmed_dali.infer.models import load_model
from pydmed_dali.infer.predict import predict
from pydmed_dali.infer.slide_runner import InferenceResult
from pydmed_dali.text import paragraph

_SECONDS_A_LINE = 0.5


@dataclass(frozen=True, slots=True)
class Inferred:
    """What the command did."""

    predicted: InferenceResult
    tiles: int
    """That the model saw."""
    seconds: float
    pictures: tuple[Path, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "written": [str(path) for path in self.predicted.written],
            "kept": [str(path) for path in self.predicted.kept],
            "slides_skipped": {str(p): r for p, r in self.predicted.slides_skipped.items()},
            "pictures": [str(path) for path in self.pictures],
            "tiles": self.tiles,
            "seconds": round(self.seconds, 3),
            "tiles_per_second": round(self.tiles / self.seconds, 1),
        }


def run_infer(
    slides: Path,
    model: str,
    out: Path,
    column: int | None,
    classes: Sequence[str],
    console: Console | None,
    trust_model: bool = False,
    **options: Any,
) -> Inferred:
    """Run a named model over a folder of slides, or one slide; `options` as for `predict`.

    With a `column`, each finished slide gets a heatmap of it beside its results, which has the
    column in its name; of slides that an earlier call finished, where there is none yet. Progress
    goes to the console, None shows none: slides that are finished, tiles, and how busy the GPU, or
    the processor, was since the line before.
    """
    dataset = dataset_of(slides)
    device = choose_device(options.pop("device"))
    where = "cuda" if device == "gpu" else "cpu"
    network = load_model(model, where, options.pop("normalize", None), trust=trust_model)
    tile = Size.of(options["tile_size"], "tile_size")
    try_model(network, model, tile, options["batch_size"], where)
    _tell(f"the model is given tiles as {network.given.words('N', tile.height, tile.width)}")
    begun = time.monotonic()
    tiles, slides_done, shown = 0, 0, 0.0
    pictures: list[Path] = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tiles, {task.fields[busy]}"),
        TimeRemainingColumn(),
        console=console,
        disable=console is None,
    ) as progress:
        task = progress.add_task("looking at the slides", total=None, busy="")

        def seen(done: int, total: int) -> None:
            nonlocal tiles, shown
            tiles, now = done, time.monotonic()
            if console is None or (now - shown < _SECONDS_A_LINE and done < total):
                return
            shown = now
            rate = f"{done / (now - begun):,.0f}/s, {_busy(device)}"
            words = f"{slides_done} of {len(dataset.slides)} slides"
            progress.update(task, completed=done, total=total, description=words, busy=rate)

        def note(slide: Path, file: Path) -> None:
            nonlocal slides_done
            slides_done += 1
            draw(slide, file)

        def draw(slide: Path, file: Path) -> None:
            if column is None:
                return
            picture = file.with_name(f"{file.stem}-column-{column}.png")
            if not _is_newer(picture, file):
                heatmap(slide, file, picture, column)
                pictures.append(picture)

        try:
            done = predict(
                dataset,
                network.model,
                out,
                model_name=model,
                normalize=str(network.given),
                classes=list(classes) or None,
                on_slide=note,
                progress=seen,
                device=device,
                **options,
            )
        except KeyboardInterrupt:
            _tell(_how_to_go_on(out))
            raise
        for slide, file in zip(done.kept_slides, done.kept, strict=True):
            draw(slide, file)
        words = f"{len(done.written) + len(done.kept)} of {len(dataset.slides)} slides"
        progress.update(task, completed=tiles, total=tiles, description=words)
    return Inferred(done, tiles, time.monotonic() - begun, tuple(pictures))


def _tell(words: str) -> None:
    """Say something beside the result."""
    Console(stderr=True).print(words, highlight=False, markup=False, soft_wrap=True)


def _how_to_go_on(out: Path) -> str:
    """What is there of a call that was stopped, for people."""
    found = [path.name for path in out.iterdir()] if out.is_dir() else []
    finished = [name for name in found if name.endswith((".h5", ".zarr")) and name[0] != "."]
    if not set(found) - {"run.json"}:
        return "stopped before anything was kept"
    return (
        f"stopped; {len(finished)} slides are finished, and what was done of others is kept in "
        f"{out}: start the same command again, and it goes on there"
    )


def _is_newer(picture: Path, file: Path) -> bool:
    """Whether there is a picture, drawn when the file was there."""
    return picture.exists() and picture.stat().st_mtime_ns >= file.stat().st_mtime_ns


def _busy(device: str) -> str:
    """How busy the GPU is, where torch can tell, or else the processor since it was asked last."""
    if device == "gpu":
        with suppress(Exception):  # torch asks NVML, by nvidia-ml-py, which not every GPU answers
            return f"GPU {torch.cuda.utilization()}%"
    return f"CPU {psutil.cpu_percent():.0f}%"


def show_infer(console: Console, found: Inferred) -> None:
    """Print what was done."""
    done = found.predicted
    for path, reason in done.slides_skipped.items():
        console.print("[red]✗[/]", end=" ")
        told = reason if str(path) in reason else f"{path}: {reason}"
        console.print(paragraph(told), markup=False)
    console.print(
        f"{len(done.written)} slides written, {len(done.kept)} were there, "
        f"{len(done.slides_skipped)} skipped; {found.tiles:,} tiles in {found.seconds:.1f} s, "
        f"{found.tiles / found.seconds:,.0f} tiles/s"
    )
