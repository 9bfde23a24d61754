"""Options that several commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="End with one JSON object on standard output.")]

Level = Annotated[int | None, typer.Option(min=0, help="The level to read, by default 0.")]
Mpp = Annotated[float | None, typer.Option(help="Micrometres per pixel to read at, not a level.")]
Magnification = Annotated[
    float | None, typer.Option(help="Magnification to read at, e.g. 20, not a level.")
]
DefaultMpp = Annotated[
    float | None, typer.Option(help="Micrometres per pixel of slides that do not tell theirs.")
]
MppOverride = Annotated[
    float | None,
    typer.Option(help="Micrometres per pixel of level 0 of every slide, whatever its file tells."),
]
MinTissue = Annotated[
    float | None, typer.Option(help="Part of each crop, or tile, that must be tissue.")
]
Masks = Annotated[
    Path | None,
    typer.Option(
        help="A folder of tissue masks of your own, named as the slides, or one slide's mask; for "
        "--min-tissue."
    ),
]
TissueValues = Annotated[
    str | None, typer.Option(help="Values of such masks that are tissue, e.g. 1,3-5 or #ff0000.")
]
Frame = Annotated[
    str,
    typer.Option(
        help="What masks and annotations refer to: bounds (what was scanned, as QuPath shows it), "
        "slide (all that OpenSlide shows), or auto."
    ),
]
Annotations = Annotated[
    Path | None,
    typer.Option(help="A folder of annotations, or one slide's file: only tiles in their regions."),
]
ShownAnnotations = Annotated[
    Path | None,
    typer.Option(
        help="A folder of annotations (GeoJSON, XML), named as the slides, or one slide's file, to "
        "show."
    ),
]
Classes = Annotated[
    list[str] | None, typer.Option("--class", help="Of the annotations; may be repeated.")
]
Exclusions = Annotated[
    list[str] | None,
    typer.Option(
        "--exclusion",
        help="A class of annotations to cut out of all others, by default Exclusion and Ignore*; "
        "may be repeated.",
    ),
]
MaxAnnotationBytes = Annotated[
    int, typer.Option(min=1, help="The largest annotation file that is read, in bytes.")
]
Model = Annotated[
    str,
    typer.Option(
        help="A TorchScript file, one of torch.export (.pt2), timm:NAME, or module:function. "
        "A file is a program: run only those that you trust."
    ),
]
TrustModel = Annotated[
    bool,
    typer.Option(
        "--trust-model",
        help="Load a file of torch.export, which can run any code that is in it.",
    ),
]
Normalize = Annotated[
    str | None,
    typer.Option(
        help="How the model is given tiles. none: (N, 3, height, width) float32, 0..1. imagenet: "
        "that, normalised. Six numbers, 'r,g,b,r,g,b': by these means and standard deviations. "
        "raw: (N, height, width, 3) uint8. By default what the model says; else none for files, "
        "raw for a function."
    ),
]
Stride = Annotated[
    int | None, typer.Option(min=1, help="From one tile to the next. By default a tile.")
]
Column = Annotated[
    int | None, typer.Option(min=0, help="Draw this number of each tile over the slide.")
]
StreamedSlides = Annotated[
    Path | None,
    typer.Option(help="Stream from the slides in this folder, instead of training."),
]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Batches. By default 400, with --slides 100.")
]
DemoCropSize = Annotated[
    int | None,
    typer.Option(min=32, help="Side of a SmallChunk. By default 128, with --slides 224."),
]
LoaderProcesses = Annotated[
    int | None, typer.Option(min=0, help="Loader processes. By default one less than cores.")
]
PreviewTissue = Annotated[
    float,
    typer.Option(min=0, max=1, help="Part of a crop that must be tissue; 0: whole slide."),
]
ShownChunks = Annotated[int, typer.Option(min=1, max=12, help="BigChunks of each slide to show.")]
RingMemory = Annotated[
    float | None, typer.Option(min=0.01, help="GiB for the ring; by default half of the free.")
]
StudiedSlides = Annotated[
    Path | None,
    typer.Argument(help="The folder of your slides; without it, typical figures are used."),
]
CropsPerSecond = Annotated[
    float | None,
    typer.Option(
        min=1, help="The speed that your training needs; by default, a row that repeats little."
    ),
]
