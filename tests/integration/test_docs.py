"""The code blocks of the documentation run as they stand, and quoted messages are the code's."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pydmed_dali import InfoColumn, Size, errors
from pydmed_dali.cli.app import app
from pydmed_dali.cli.help import find_page
from pydmed_dali.cli.plan import plan_options, typical_study
from pydmed_dali.errors import OptionError, PydmedError
from pydmed_dali.measure.advice import Advice, PlanRequest
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide

DOCS = Path(__file__).parents[2] / "docs"
PAGES = (
    "choosing.md",
    "datasets.md",
    "inference.md",
    "user_code.md",
    "parity.md",
    "pipelines.md",
    "training.md",
    "volumes.md",
)


def blocks(page: str) -> list[str]:
    found: list[str] = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory: 40 slides of which only names are read, annotations, two real ones."""
    folder = tmp_path_factory.mktemp("docs")
    rows = ["slide,patient,label,scanner"]
    for number in range(20):
        tissue = "benign" if number < 10 else "tumor"
        for block, scanner in (("a", "Aperio"), ("b", "Hamamatsu")):
            path = Path("slides") / tissue / f"P{number}-{block}.svs"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).touch()
            rows.append(f"{path},P{number},{tissue},{scanner}")
    (folder / "slides.csv").write_text("\n".join(rows))
    (folder / "annotations").mkdir()
    text = json.dumps([box("Tumor", 100, 100, 1300, 700), box("Necrosis", 850, 850, 100, 100)])
    (folder / "annotations" / "P10-a.geojson").write_text(text)
    for number, tissue in enumerate(("gland", "tumor")):
        write_tissue_slide(folder / f"{number}.svs", Size(2048, 2048), tissue=tissue, seed=1)
        (folder / "tissue" / tissue).mkdir(parents=True)
        (folder / "tissue" / tissue / "slide.svs").hardlink_to(folder / f"{number}.svs")
        (folder / "annotations" / tissue).mkdir()
        (folder / "annotations" / tissue / "slide.geojson").write_text(text)
    (folder / "her2.csv").write_text("slide,HER2\n0.svs,0\n1.svs,3\n")
    return folder


def box(name: str, x: int, y: int, width: int, height: int) -> dict[str, object]:
    """An annotation as QuPath writes it."""
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [corners]},
        "properties": {"objectType": "annotation", "classification": {"name": name}},
    }


RUN = """
import runpy, sys
for block in sys.argv[1:]:
    runpy.run_path(block, run_name="__main__")
"""


@pytest.mark.parametrize("page", PAGES)
def test_the_code_blocks_of_a_page_run(page: str, folder: Path) -> None:
    """One after the other, each by itself, in one process: torch takes seconds to import."""
    names = []
    for number, block in enumerate(blocks(page)):
        names.append(f"{Path(page).stem}-{number}.py")
        (folder / names[-1]).write_text(block)
    assert names
    done = subprocess.run(
        [sys.executable, "-c", RUN, *names],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def planned(memory_gib: float) -> Advice:
    """What `pydmed-dali plan` says without slides, on two cores."""
    wishes = PlanRequest(Size(224, 224), 256, int(memory_gib * 2**30), 2, None)
    return plan_options(typical_study(), wishes)


def test_the_tables_of_the_choosing_page_are_what_plan_prints() -> None:
    page = (DOCS / "choosing.md").read_text()
    for found in planned(4).options:
        assert (
            f"| {found.setting.crops_per_chunk} | {found.crops_per_second:,.0f} | {found.limit} "
            f"| {found.decode_amplification:.2f} | {found.slides_per_batch:.0f} "
            f"| {found.same_chunk_pairs:.1%} | {found.share_per_pass:.2%} "
            f"| {found.new_megapixels_per_second:,.0f} "
            f"| {found.memory_bytes / 2**30:.1f} GiB |" in page
        )
    for memory in (0.5, 1, 4):
        found = planned(memory).chosen
        assert (
            f"| {memory} | {found.setting.chunk.width} | {found.setting.resident} "
            f"| {found.setting.crops_per_chunk} | {found.crops_per_second:,.0f} "
            f"| {found.slides_per_batch:.0f} | {found.share_per_pass:.2%} "
            f"| {found.memory_bytes / 2**30:.1f} GiB |" in page
        )
    slow = PlanRequest(Size(224, 224), 256, 4 * 2**30, 2, 2000)
    assert plan_options(typical_study(), slow).chosen.setting.crops_per_chunk == 16


def test_links_between_pages_lead_somewhere() -> None:
    for page in DOCS.rglob("*.md"):
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"


def nodes_of_the_code() -> Iterator[ast.AST]:
    for folder, _, files in os.walk(DOCS.parent / "pydmed_dali", followlinks=True):
        for file in files:
            if file.endswith(".py"):
                yield from ast.walk(ast.parse((Path(folder) / file).read_text()))


def texts_of_the_code() -> str:
    """Every string of the package, one a line; values that are put in are dots."""
    kinds = (ast.JoinedStr, ast.Constant)
    return "\n".join(text_of(node) for node in nodes_of_the_code() if isinstance(node, kinds))


def texts_of_errors() -> list[tuple[type[PydmedError], str]]:
    """The messages of the package's errors, where they are made, with the class of each."""
    found = []
    for node in nodes_of_the_code():
        if isinstance(node, ast.Call) and node.args:
            kind = vars(errors).get(getattr(node.func, "id", ""))
            if isinstance(kind, type) and issubclass(kind, PydmedError):
                found.append((kind, text_of(node.args[0])))
    return found


def text_of(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return str(node.value) if isinstance(node, ast.Constant) else "..."


def pieces_of(text: str) -> list[str]:
    """What a quoted message says between its dots."""
    return [piece.strip(" :()") for piece in re.split(r"\.\.\.|%s", text)]


def quoted_messages() -> list[str]:
    page = (DOCS / "troubleshooting.md").read_text()
    cells = re.findall(r"^\| (.*?) \|", page, re.MULTILINE)
    return [text for cell in cells if "DALI:" not in cell for text in re.findall(r"`(.*?)`", cell)]


def test_the_messages_of_the_troubleshooting_page_are_those_of_the_code() -> None:
    code = texts_of_the_code()
    pieces = [
        piece
        for text in quoted_messages()
        for piece in pieces_of(re.sub(r"^\w+Error:? ?", "", text))
    ]
    missing = [piece for piece in pieces if piece not in code]
    assert missing == []
    assert sum(len(piece) > 15 for piece in pieces) > 20


def test_the_errors_of_the_troubleshooting_page_are_of_the_class_that_is_raised() -> None:
    made = texts_of_errors()
    wrong, told = [], 0
    for quoted in quoted_messages():
        name, _, text = quoted.partition(":")
        pieces = [piece for piece in pieces_of(text) if len(piece) > 5]
        if name.endswith("Error") and pieces:
            kinds = [kind for kind, said in made if all(piece in said for piece in pieces)]
            told += bool(kinds)  # few are put together from several texts
            if kinds and not any(issubclass(kind, vars(errors)[name]) for kind in kinds):
                wrong.append(quoted)
    assert wrong == []
    assert told > 30


def test_every_column_of_info_is_told() -> None:
    page = (DOCS / "pipelines.md").read_text()
    table = page[
        page.index("| columns of `pydmed_dali.InfoColumn`") : page.index("## Building blocks")
    ]
    told = re.findall(r"`([A-Z0-9_]+)`", table)
    assert sorted(told) == sorted(column.name for column in InfoColumn)


def test_every_page_that_the_code_names_is_shown_by_the_command() -> None:
    named = set(re.findall(r"docs/[\w/.-]*\w", texts_of_the_code() + comments_of_the_code()))
    pages = {name.removesuffix(".md") for name in named if not name.endswith(("*", "NAME.md"))}
    assert len(pages) > 8 and {find_page(page).suffix for page in pages} == {".md"}
    assert CliRunner().invoke(app, ["docs", "docs/sampling.md"]).stdout.startswith("# ")
    listed = CliRunner().invoke(app, ["docs"]).stdout
    assert all(f"{page.stem} " in listed for page in DOCS.rglob("*.md"))
    with pytest.raises(
        OptionError, match=r"no page 'nothing'; pages are architecture, choosing, .*decisions/"
    ):
        find_page("nothing")


def comments_of_the_code() -> str:
    return "\n".join(
        line.partition("#")[2]
        for path in (DOCS.parent / "pydmed_dali").rglob("*.py")
        for line in path.read_text().splitlines()
    )
