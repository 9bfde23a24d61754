"""No pickle, and nothing else that can run code, is loaded from a file."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

RUN_CODE = {
    *(f"pickle.{name}" for name in ("load", "loads", "Unpickler")),
    *(f"_pickle.{name}" for name in ("load", "loads", "Unpickler")),
    *(f"cloudpickle.{name}" for name in ("load", "loads", "Unpickler")),
    *(f"marshal.{name}" for name in ("load", "loads")),
    *("dill.load", "dill.loads", "joblib.load", "shelve.open", "pandas.read_pickle"),
    *("torch.load", "torch.export.load", "torch.export.pt2_archive.load_pt2", "yaml.load"),
    *("runpy.run_path", "eval", "exec"),
}

OUR_OWN_PROCESSES = {
    "pydmed_dali/worker/messages.py:receive_all": "a socket that only our own processes hold",
    "pydmed_dali/pool/worker_pool.py:pickle_loader": "the loader just pickled, as a trial",
    "pydmed_dali/worker/main.py:main": "the loader in that file, as the parent pickled it",
    "pydmed_dali/worker/main.py:_read": "the nameless file that the parent hands to a worker",
}
"""Where pickles are loaded, and what they come from."""

TRUSTED = {
    "pydmed_dali/infer/models.py:_load_export": "a file of which the user says so",
}
"""Where else code of a file can be run."""


def loads_of_code(tree: ast.Module) -> Iterator[str]:
    """Yield the name of each function that uses one of `RUN_CODE`, called or passed on."""
    names = dict(_imported(tree))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    for node in ast.walk(tree):
        if not isinstance(node, ast.expr | ast.keyword) or not _can_run_code(node, names):
            continue
        inside = [f for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)]
        yield max(inside, key=lambda f: f.lineno).name if inside else "the module itself"


def _can_run_code(node: ast.expr | ast.keyword, names: dict[str, str]) -> bool:
    if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
        return not (isinstance(node.value, ast.Constant) and node.value.value is False)
    return isinstance(node, ast.Name | ast.Attribute) and _full(node, names) in RUN_CODE


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield each imported name with what it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((a.asname or a.name, a.name) for a in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((a.asname or a.name, f"{node.module}.{a.name}") for a in node.names)


def _full(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_full(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def test_pickles_come_from_our_own_processes_or_are_trusted() -> None:
    found = {
        f"{path.relative_to(CHECKOUT)}:{function}"
        for folder, _, files in os.walk(CHECKOUT / "pydmed_dali", followlinks=True)
        for path in (Path(folder, file) for file in files if file.endswith(".py"))
        for function in loads_of_code(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == OUR_OWN_PROCESSES.keys() | TRUSTED.keys()


@pytest.mark.parametrize(
    "line",
    [
        "import pickle; pickle.load(f)",
        "import pickle as p; p.Unpickler(f).load()",
        "from pickle import load as read; read(f)",
        "import cloudpickle; list(map(cloudpickle.loads, parts))",
        "import numpy as np; np.load(f, allow_pickle=True)",
        "from torch import load; load(f)",
        "eval(text)",
    ],
)
def test_the_search_finds(line: str) -> None:
    assert list(loads_of_code(ast.parse(line))) == ["the module itself"]
    function = "def read(f):\n    " + line
    assert list(loads_of_code(ast.parse(function))) == ["read"]


def test_the_search_finds_no_more() -> None:
    line = "import json, pickle; json.load(f); model.eval(); pickle.dumps(x); np.load(f)"
    assert list(loads_of_code(ast.parse(line))) == []
