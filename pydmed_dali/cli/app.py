"""The command line: arguments become calls, and errors one clear paragraph.

Nothing heavy is imported before a command runs, so that `--help` and `--version` answer at once.
Commands raise; `main` alone turns errors into exit codes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pydmed_dali import __version__
from pydmed_dali.annotation.defaults import EXCLUSIONS, MOST_BYTES
from pydmed_dali.cli.help import docs, doctor
from pydmed_dali.cli.options import (
    Annotations,
    Classes,
    Column,
    CropsPerSecond,
    DefaultMpp,
    DemoCropSize,
    Exclusions,
    Frame,
    Json,
    Level,
    LoaderProcesses,
    Magnification,
    Masks,
    MaxAnnotationBytes,
    MinTissue,
    Model,
    Mpp,
    MppOverride,
    Normalize,
    PreviewTissue,
    RingMemory,
    ShownAnnotations,
    ShownChunks,
    Steps,
    StreamedSlides,
    Stride,
    StudiedSlides,
    TissueValues,
    TrustModel,
)
from pydmed_dali.cli.terminal import terminal
from pydmed_dali.errors import OptionError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train on gigapixel slides straight from the files, through NVIDIA DALI.",
    epilog="A page that is named docs/NAME.md is shown by: pydmed-dali docs NAME",
)


def main() -> None:
    """Run the command line. Exit codes: 1 after an error, 2 for wrong use, 130 after Ctrl-C."""
    with terminal():
        app(prog_name="pydmed-dali")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pydmed-dali {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options of the program itself."""


@app.command()
def demo(
    slides: StreamedSlides = None,
    out: Annotated[Path, typer.Option(help="Where slides and the picture go.")] = Path(
        "demo-output"
    ),
    steps: Steps = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides every slide, crop and weight.")] = 0,
    chunk_size: Annotated[int, typer.Option(min=1, help="Side of a BigChunk, in pixels.")] = 2048,
    crop_size: DemoCropSize = None,
    batch_size: Annotated[int, typer.Option(min=1, help="SmallChunks in a batch.")] = 64,
    num_workers: LoaderProcesses = None,
    device: Annotated[
        str, typer.Option(help="Where crops are augmented: auto, cpu or gpu.")
    ] = "auto",
    as_json: Json = False,
) -> None:
    """Train a small network on synthetic slides, or stream from your own, and draw what was read.

    Without --slides it makes H&E-like slides of four tissues, trains on some of them, and reports
    how well the network does on the others: below an accuracy of 0.9 the exit code is 1. That takes
    a few minutes on two cores and needs no GPU.
    """
    from pydmed_dali.demo.console import progress_on_stderr, show_report
    from pydmed_dali.demo.own_slides import stream_own_slides
    from pydmed_dali.demo.settings import Settings
    from pydmed_dali.demo.synthetic_slides import check_accuracy, train_on_synthetic_slides

    settings = Settings(
        out=out,
        steps=steps or (400 if slides is None else 100),
        seed=seed,
        chunk_size=chunk_size,
        crop_size=crop_size or (128 if slides is None else 224),
        batch_size=batch_size,
        num_workers=num_workers,
        device=device,
    )
    with progress_on_stderr() as progress:
        if slides is None:
            report = train_on_synthetic_slides(settings, progress)
        else:
            report = stream_own_slides(slides, settings, progress)
    if as_json:
        typer.echo(json.dumps(report.as_dict()))
    else:
        show_report(report)
    if slides is None:
        check_accuracy(report)


@app.command()
def inspect(
    slides: Annotated[list[Path], typer.Argument(help="Slide files, or folders that hold slides.")],
    exclusions: Exclusions = None,
    max_annotation_bytes: MaxAnnotationBytes = MOST_BYTES,
    as_json: Json = False,
) -> None:
    """Show what slides say of themselves, and whether they can be read.

    The exit code is 1 if none of them can, and if a folder that is named holds no slide.
    """
    from rich.console import Console

    from pydmed_dali.cli.inspect import inspect_slides, show_inspections
    from pydmed_dali.worker.annotation_plan import ReadingRules

    rules = ReadingRules(tuple(exclusions or EXCLUSIONS), max_annotation_bytes)
    inspections = inspect_slides(slides, rules)
    if as_json:
        typer.echo(json.dumps({"slides": [inspection.as_dict() for inspection in inspections]}))
    else:
        show_inspections(Console(), inspections)
    is_without = any(inspection.is_folder for inspection in inspections)
    if is_without or all(inspection.problem is not None for inspection in inspections):
        raise typer.Exit(1)


@app.command()
def preview(
    slides: Annotated[Path, typer.Argument(help="A slide file, or a folder that holds slides.")],
    out: Annotated[Path, typer.Option(help="The folder for the pictures, one a slide.")] = Path(
        "preview"
    ),
    min_tissue: PreviewTissue = 0.5,
    masks: Masks = None,
    tissue_values: TissueValues = None,
    frame: Frame = "auto",
    annotations: ShownAnnotations = None,
    exclusions: Exclusions = None,
    max_annotation_bytes: MaxAnnotationBytes = MOST_BYTES,
    level: Level = None,
    mpp: Mpp = None,
    magnification: Magnification = None,
    default_mpp: DefaultMpp = None,
    mpp_override: MppOverride = None,
    chunk_size: Annotated[int, typer.Option(min=1, help="Side of a BigChunk, in pixels.")] = 4096,
    crop_size: Annotated[int, typer.Option(min=1, help="Side of a SmallChunk, in pixels.")] = 224,
    chunks: ShownChunks = 8,
    seed: Annotated[int, typer.Option(min=0, help="As of the source.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw slides with their tissue and with the crops that a source would take of them.

    The BigChunks and SmallChunks are those that a BigChunkSource with these options, over the same
    slides, begins with, in that order. The exit code is 1 if no slide can be read.
    """
    from rich.console import Console

    from pydmed_dali.cli.preview import dataset_of, preview_request, preview_slides, show_preview
    from pydmed_dali.worker.annotation_plan import ReadingRules

    dataset = dataset_of(slides)
    wishes = preview_request(
        dataset,
        min_tissue,
        masks,
        tissue_values,
        frame,
        level,
        mpp,
        chunk_size,
        crop_size,
        chunks,
        seed,
        magnification,
        default_mpp,
        mpp_override,
        annotations,
        ReadingRules(tuple(exclusions or EXCLUSIONS), max_annotation_bytes),
    )
    previews = []
    for preview in preview_slides(dataset, wishes, out):
        previews.append(preview)
        if not as_json:
            show_preview(Console(), preview)
    if as_json:
        typer.echo(json.dumps({"slides": [preview.as_dict() for preview in previews]}))
    if all(preview.problem is not None for preview in previews):
        raise typer.Exit(1)


app.command()(doctor)
app.command()(docs)


@app.command()
def plan(
    slides: StudiedSlides = None,
    batch_size: Annotated[int, typer.Option(min=1, help="SmallChunks in a batch.")] = 256,
    crop_size: Annotated[int, typer.Option(min=1, help="Side of a SmallChunk, in pixels.")] = 224,
    level: Level = None,
    mpp: Mpp = None,
    magnification: Magnification = None,
    default_mpp: DefaultMpp = None,
    mpp_override: MppOverride = None,
    min_tissue: MinTissue = None,
    masks: Masks = None,
    tissue_values: TissueValues = None,
    frame: Frame = "auto",
    memory: RingMemory = None,
    crops_per_second: CropsPerSecond = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of each of two timed runs.")] = 5,
    as_json: Json = False,
) -> None:
    """Say which options to use for your slides, and what speed and diversity to expect.

    Opens some of the slides and times two short runs over all of them.
    """
    from rich.console import Console

    from pydmed_dali.cli import plan as cli_plan
    from pydmed_dali.geometry import Size

    wishes = cli_plan.usual_request(
        Size(crop_size, crop_size), batch_size, memory, crops_per_second
    )
    own = (None if masks is None else str(masks), tissue_values, None if frame == "auto" else frame)
    scale = cli_plan.Scale(level, mpp, min_tissue, magnification, default_mpp, mpp_override, *own)
    if slides is None:
        study = cli_plan.typical_study()
    else:
        study = cli_plan.study_slides(slides, wishes, scale, seconds)
    advice = cli_plan.plan_options(study, wishes)
    if as_json:
        typer.echo(json.dumps(cli_plan.as_dict(study, wishes, advice, scale)))
    else:
        cli_plan.show_plan(Console(), study, wishes, advice, scale)


@app.command()
def infer(
    slides: Annotated[Path, typer.Argument(help="A folder of slides, or one slide.")],
    model: Model,
    out: Annotated[Path, typer.Option(help="The folder for results, a file for each slide.")],
    normalize: Normalize = None,
    trust_model: TrustModel = False,
    tile_size: Annotated[int, typer.Option(min=1, help="Side of a tile, in pixels.")] = 224,
    stride: Stride = None,
    level: Level = None,
    mpp: Mpp = None,
    magnification: Magnification = None,
    default_mpp: DefaultMpp = None,
    mpp_override: MppOverride = None,
    min_tissue: MinTissue = None,
    masks: Masks = None,
    tissue_values: TissueValues = None,
    frame: Frame = "auto",
    annotations: Annotations = None,
    classes: Classes = None,
    exclusions: Exclusions = None,
    max_annotation_bytes: MaxAnnotationBytes = MOST_BYTES,
    column: Column = None,
    file_format: Annotated[str, typer.Option("--format", help="h5 or zarr.")] = "h5",
    batch_size: Annotated[int, typer.Option(min=1, help="Tiles in a batch.")] = 256,
    chunk_size: Annotated[int, typer.Option(min=1, help="Side of a BigChunk, in pixels.")] = 4096,
    num_workers: Annotated[int | None, typer.Option(min=0, help="Processes that read.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    as_json: Json = False,
) -> None:
    """Run a model over every tile of every slide; called again, it goes on where it ended.

    Writes an .h5 file, or a Zarr group, for each slide: features and coords, in CLAM's names.

    Started by torchrun, processes share the slides out. The exit code is 1 if nothing can be read.
    """
    from importlib.util import find_spec

    from rich.console import Console

    if find_spec("h5py") is None:
        raise OptionError("infer writes with h5py: pip install -c constraints.txt '.[infer]'")
    from pydmed_dali.cli import infer as cli_infer

    found = cli_infer.run_infer(
        slides,
        model,
        out,
        column,
        classes or (),
        None if as_json else Console(),
        trust_model,
        normalize=normalize,
        tile_size=tile_size,
        stride=stride,
        level=level,
        mpp=mpp,
        magnification=magnification,
        default_mpp=default_mpp,
        mpp_override=mpp_override,
        min_tissue=min_tissue,
        masks=masks,
        tissue_values=tissue_values,
        frame=frame,
        annotations=annotations,
        exclusions=exclusions or EXCLUSIONS,
        max_annotation_bytes=max_annotation_bytes,
        file_format=file_format,
        batch_size=batch_size,
        chunk_size=chunk_size,
        num_workers=num_workers,
        device=device,
    )
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        cli_infer.show_infer(Console(), found)


@app.command()
def bench(
    slides: Annotated[Path, typer.Argument(help="The folder of your slides.")],
    batch_size: Annotated[int, typer.Option(min=1, help="SmallChunks in a batch.")] = 256,
    crop_size: Annotated[int, typer.Option(min=1, help="Side of a SmallChunk, in pixels.")] = 224,
    chunk_size: Annotated[int, typer.Option(min=1, help="Side of a BigChunk, in pixels.")] = 4096,
    resident: Annotated[int, typer.Option(min=1, help="BigChunks resident.")] = 16,
    crops_per_chunk: Annotated[int, typer.Option(min=1, help="Crops of each BigChunk.")] = 512,
    num_workers: Annotated[
        int | None, typer.Option(min=1, help="Processes of each loader. By default one a core.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of each timed run.")] = 6,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each loader; they take turns.")] = 3,
    as_json: Json = False,
) -> None:
    """Compare this library with a DataLoader over OpenSlide, on your slides, in about a minute.

    Both read level 0 with equally many processes; the figures are medians.
    """
    from rich.console import Console

    from pydmed_dali.cli import bench as cli_bench
    from pydmed_dali.dali.device import core_count

    options = {
        "chunk_size": chunk_size,
        "crop_size": crop_size,
        "batch_size": batch_size,
        "resident": resident,
        "crops_per_chunk": crops_per_chunk,
        "num_workers": num_workers or core_count(),
        "device": device,
    }
    found = cli_bench.run_bench(slides, options, seconds, rounds)
    if as_json:
        typer.echo(json.dumps(cli_bench.as_dict(found)))
    else:
        cli_bench.show_bench(Console(), found)
