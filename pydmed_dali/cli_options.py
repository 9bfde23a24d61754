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
MinTissue = Annotated[
    float | None, typer.Option(help="Part of each crop, or tile, that must be tissue.")
]
Masks = Annotated[
    Path | None,
    typer.Option(
        help="A folder of tissue masks of your own, named as the slides; for --min-tissue."
    ),
]
TissueValues = Annotated[
    str | None, typer.Option(help="Values of such masks that are tissue, e.g. 1,3-5 or #ff0000.")
]
Model = Annotated[
    str,
    typer.Option(
        help="A TorchScript file, one of torch.export (.pt2), timm:NAME, or module:function. "
        "Files can run code that is in them: load only those that you trust."
    ),
]
