"""Commands that help: `doctor`, and `docs`, the documentation of this version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pydmed_dali.cli.options import Json
from pydmed_dali.errors import OptionError

PAGES = Path(__file__).parents[1] / "docs"
"""Where the pages lie, in the checkout and in what is installed of it."""


def doctor(
    as_json: Json = False,
    gpu_test: Annotated[
        bool,
        typer.Option("--gpu-test", help="Also try each residency on the GPU, pixel by pixel."),
    ] = False,
) -> None:
    """Check this machine: libraries, GPU, cores, memory, and a worker and pipeline at work.

    The exit code is 1 if something that is needed does not work; no GPU is not an error.
    """
    from rich.console import Console

    from pydmed_dali.cli.doctor import as_dict, examine, is_well, show_checks

    checks = examine(gpu_test)
    if as_json:
        typer.echo(json.dumps(as_dict(checks)))
    else:
        show_checks(Console(), checks)
    if not is_well(checks):
        raise typer.Exit(1)


def docs(
    name: Annotated[
        str | None, typer.Argument(help="A page: inference, docs/inference.md, decisions/0007.")
    ] = None,
) -> None:
    """Show a page of the documentation of this version; without a name, list the pages."""
    if name is None:
        for page in pages():
            typer.echo(f"{name_of(page):<36} {page.read_text().partition(chr(10))[0].lstrip('# ')}")
        return
    text = find_page(name).read_text()
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        typer.echo(text)


def pages() -> list[Path]:
    """All pages, those of decisions last."""
    return [*sorted(PAGES.glob("*.md")), *sorted(PAGES.glob("decisions/*.md"))]


def name_of(page: Path) -> str:
    """The name by which `docs` shows a page."""
    return str(page.relative_to(PAGES).with_suffix(""))


def find_page(name: str) -> Path:
    """The page of a name, as docstrings have it, or the one whose name begins so.

    Raises `OptionError` where there is none, or there are several.
    """
    asked = name.removeprefix("docs/").partition("#")[0].removesuffix(".md")
    known = {name_of(page): page for page in pages()}
    found = [asked] if asked in known else [each for each in known if each.startswith(asked)]
    if len(found) != 1:
        raise OptionError(f"there is no page {name!r}; pages are {', '.join(known)}")
    return known[found[0]]
