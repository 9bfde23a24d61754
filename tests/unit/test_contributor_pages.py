"""The pages for contributors name what is there: paths, names, modules, terms, one version."""

from __future__ import annotations

import os
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

import pydmed_dali

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pydmed_dali"
PAGES = (
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/architecture.md",
    "docs/glossary.md",
    "docs/index.md",
)
PACKAGES = tuple(sorted(p.parent.name for p in PACKAGE.glob("*/__init__.py")))
READMES = tuple(f"pydmed_dali/{package}/README.md" for package in PACKAGES)
LONGEST_LINE = 120

_PATH = re.compile(r"[\w.*-]+/[\w.*/-]*|[\w-]+\.(?:md|py|toml|txt|cff)")
_MADE = (".venv/",)
"""Where paths begin that make makes."""
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[a-z_]\w*)?(?:\(\))?")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def spans(page: str) -> list[str]:
    """What stands in backticks in a page's prose."""
    prose = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    found: list[str] = re.findall(r"`([^`]+)`", prose)
    return found


def is_there(path: str, page: str) -> bool:
    """Whether a path leads somewhere from the checkout, the package or the page's own folder."""
    bases = (ROOT, PACKAGE, (ROOT / page).resolve().parent)
    return any(next(base.glob(path.rstrip("/")), None) for base in bases)


@cache
def words_of_the_code() -> frozenset[str]:
    """Every word of the package, the benchmarks, the tests' settings and the build files."""
    files = [
        Path(folder) / file
        for folder, _, names in os.walk(PACKAGE, followlinks=True)
        for file in names
        if file.endswith(".py")
    ]
    files += [ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    files += [ROOT / "tests" / "conftest.py", *(ROOT / "benchmarks").glob("*.py")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return frozenset(re.findall(r"\w+", text))


@pytest.mark.parametrize("page", [*PAGES, *READMES])
def test_paths_in_backticks_exist(page: str) -> None:
    paths = [s for s in spans(page) if _PATH.fullmatch(s) and not s.startswith(_MADE)]
    assert [path for path in paths if not is_there(path, page)] == []


@pytest.mark.parametrize("page", [*PAGES, *READMES])
def test_names_in_backticks_are_names_of_the_code(page: str) -> None:
    found = [s for s in spans(page) if _NAME.fullmatch(s) and not _PATH.fullmatch(s)]
    words = {word for name in found for word in name.removesuffix("()").split(".")}
    known = words_of_the_code() | {path.name for path in ROOT.iterdir()}
    assert sorted(words - known) == []


@pytest.mark.parametrize("page", ["README.md", *PAGES, *READMES])
def test_links_lead_somewhere(page: str) -> None:
    folder = (ROOT / page).resolve().parent
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text_of(page))
    assert [link for link in links if "://" not in link and not (folder / link).exists()] == []


@pytest.mark.parametrize("page", [*PAGES, *READMES])
def test_prose_is_wrapped(page: str) -> None:
    lines = text_of(page).splitlines()
    assert [line for line in lines if len(line) > LONGEST_LINE and not line.startswith("|")] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_names_its_modules_and_nothing_else(package: str) -> None:
    page = text_of(f"pydmed_dali/{package}/README.md")
    (tree,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    first, *lines = tree.splitlines()
    named = [re.fullmatch(r"  ([\w/]+\.py)  +\S.*", line) for line in lines]
    modules = {
        str(path.relative_to(PACKAGE / package))
        for path in (PACKAGE / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert first == f"{package}/"
    assert sorted(match[1] for match in named if match) == sorted(modules)
    assert len(named) == len(modules)


def test_commands_of_the_contributing_page_exist() -> None:
    page = text_of("CONTRIBUTING.md")
    makefile = text_of("Makefile")
    targets = set(re.findall(r"(?:^ *|`)make ([a-z]+)", page, re.MULTILINE))
    assert len(targets) > 4 and all(f"\n{target}:" in makefile for target in targets)
    arguments = re.findall(r'ARGS="([^"]+)"', page)
    paths = [word for text in arguments for word in text.split() if "/" in word]
    assert len(paths) > 4 and [path for path in paths if not (ROOT / path).exists()] == []
    modules = re.findall(r"python\s+-m\s+(benchmarks\.\w+)", page)
    assert modules and all((ROOT / f"{m.replace('.', '/')}.py").is_file() for m in modules)


def test_the_glossary_is_sorted_and_names_its_modules() -> None:
    terms = re.findall(r"^- \*\*(.+?)\*\* \(`([\w/.]+)`\): \S", text_of("docs/glossary.md"), re.M)
    names = [name.lower() for name, _ in terms]
    assert len(names) > 60 and names == sorted(set(names))
    assert len(names) == text_of("docs/glossary.md").count("\n- ")
    assert [module for _, module in terms if not (PACKAGE / module).is_file()] == []


def test_the_index_leads_to_every_page() -> None:
    links = set(re.findall(r"\]\(([\w./-]+\.md)\)", text_of("docs/index.md")))
    docs = ROOT / "docs"
    pages = {str(page.relative_to(docs)) for page in docs.rglob("*.md")} - {"index.md"}
    assert pages <= links


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/glossary.md", "CONTRIBUTING.md"])
def test_the_readme_leads_to_the_pages_for_contributors(page: str) -> None:
    assert f"]({page})" in text_of("README.md")


def test_there_is_one_version() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    citation = dict(re.findall(r"^([a-z-]+): (.+)$", text_of("CITATION.cff"), re.MULTILINE))
    assert project["version"] == citation["version"] == pydmed_dali.__version__
    assert (citation["cff-version"], citation["license"]) == ("1.2.0", project["license"])
