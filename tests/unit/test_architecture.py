"""Imports point one way, heavy libraries stay in their rooms, and modules stay small."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = "pydmed_dali"
FACE = "__init__"
"""The public names: may import every room, lazily, and is open to the rooms listed after it."""

ROOMS = (
    "errors",
    "text",
    "machine",
    "geometry",
    "dataset",
    "annotation",
    "slide",
    "synthetic",
    "plan",
    "ring",
    "worker",
    "pool",
    "dali",
    "source",
    FACE,
    "pipelines",
    "infer",
    "measure",
    "demo",
    "preview",
    "cli",
    "__main__",
)
"""A room is a module or a subpackage; it may import itself and those before it."""

HEAVY = {"cupy", "nvidia", "torch"}
HEAVY_ROOMS = {"dali", "source", "pipelines", "infer", "measure", "demo", "cli"}
MOST_LINES = 400


def _modules() -> Iterator[tuple[str, Path]]:
    """Yield each module's dotted name and file; a package is named `package.__init__`."""
    for folder, _, files in os.walk(CHECKOUT / PACKAGE, followlinks=True):
        for file in sorted(files):
            if file.endswith(".py"):
                path = Path(folder) / file
                yield ".".join(path.relative_to(CHECKOUT).with_suffix("").parts), path


def _imports(name: str, path: Path) -> Iterator[str]:
    """Yield the dotted names that a module imports, anywhere in it, `x.y` for `from x import y`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = name.split(".")[: -node.level] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def _room(name: str) -> str:
    """Return the room of a dotted name inside the package; a public name belongs to its face."""
    part = name.split(".")[1] if "." in name else FACE
    inside = CHECKOUT / PACKAGE / part
    return part if inside.is_dir() or inside.with_suffix(".py").is_file() else FACE


def test_every_module_lies_in_a_known_room() -> None:
    assert sorted({_room(name) for name, _ in _modules()} - set(ROOMS)) == []


def test_imports_point_one_way() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, path in _modules()
        for imported in _imports(name, path)
        if imported.split(".")[0] == PACKAGE
        and _room(name) in ROOMS
        and _room(name) != FACE
        and _room(imported) not in ROOMS[: ROOMS.index(_room(name)) + 1]
    ]
    assert wrong == []


def test_only_the_rooms_after_the_pool_import_dali_torch_or_cupy() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, path in _modules()
        for imported in _imports(name, path)
        if imported.split(".")[0] in HEAVY and _room(name) not in HEAVY_ROOMS
    ]
    assert wrong == []


def test_modules_stay_small() -> None:
    long = [
        f"{name}: {lines} lines"
        for name, path in _modules()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    ]
    assert long == []
