"""The package imports in full from a wheel, from an editable install and from the checkout.

`pydmed_dali/pipelines` is a symlink to `pipelines/`, so each way of shipping it could lose it.
Builds run on a copy of the tree and fetch nothing.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SHIPPED = ("LICENSE", "README.md", "pyproject.toml", "docs", "pydmed_dali", "pipelines", "tests")
BUILD_LEFTOVERS = shutil.ignore_patterns("__pycache__", "*.egg-info")
PROBE = """
import importlib.util, json
import pydmed_dali.pipelines
names = {names}
specs = [importlib.util.find_spec("pydmed_dali.pipelines." + name) for name in names]
print(json.dumps([pydmed_dali.pipelines.__file__] + [spec and spec.origin for spec in specs]))
"""


def _run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment | {"PIP_NO_INDEX": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _copy_checkout(target: Path) -> Path:
    target.mkdir()
    for name in SHIPPED:
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, target / name, symlinks=True, ignore=BUILD_LEFTOVERS)
        else:
            shutil.copy2(CHECKOUT / name, target / name)
    return target


def _make_environment(target: Path) -> Path:
    """Return the Python of a new environment that sees this one's libraries, but not its package.

    An editable install of this one stays unseen: only directories are listed in a `.pth` file,
    and the `.pth` files inside those are not read.
    """
    venv.create(target, with_pip=False, symlinks=True)
    paths = sysconfig.get_paths(vars={"base": str(target), "platbase": str(target)})
    own = sysconfig.get_paths()
    listed = "\n".join(sorted({own["purelib"], own["platlib"]}))
    (Path(paths["purelib"]) / "libraries.pth").write_text(listed + "\n")
    return target / "bin" / "python"


def _install(python: Path, *what: str | Path, cwd: Path) -> None:
    """Install without looking at what is installed, which the environment borrows."""
    offline = ("--no-deps", "--no-build-isolation", "--ignore-installed", "--quiet")
    _run(sys.executable, "-m", "pip", "--python", python, "install", *offline, *what, cwd=cwd)


def _pipelines_seen_by(python: Path, cwd: Path) -> list[Path]:
    """Return the files of `pydmed_dali.pipelines` and of every module in it."""
    names = sorted(p.stem for p in (CHECKOUT / "pipelines").glob("[!_]*.py"))
    files = json.loads(_run(python, "-c", PROBE.format(names=names), cwd=cwd))
    assert len(files) == 1 + len(names)
    assert None not in files, f"not found among {names}: {files}"
    return [Path(file) for file in files]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel from an sdist of a copy of the checkout."""
    folder = tmp_path_factory.mktemp("build")
    copy = _copy_checkout(folder / "copy")
    out = folder / "dist"
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy, cwd=folder)
    assert len(list(out.glob("*.tar.gz"))) == 1
    (built,) = out.glob("*.whl")
    return built


def test_a_wheel_built_from_the_sdist_holds_the_package_and_nothing_else(wheel: Path) -> None:
    copy = wheel.parent.with_name("copy")
    names = zipfile.ZipFile(wheel).namelist()
    packaged = {name for name in names if ".dist-info/" not in name}
    expected = {
        str(file.relative_to(copy))
        for folder, _, files in os.walk(copy / "pydmed_dali", followlinks=True)
        for file in (Path(folder) / name for name in files)
        if file.suffix == ".py"
        or file.name == "py.typed"
        or (file.suffix == ".md" and "docs" in file.parts)
    }
    assert packaged == expected
    assert {"pydmed_dali/py.typed", "pydmed_dali/pipelines/__init__.py"} <= packaged
    pages = {f"pydmed_dali/docs/{page}.md" for page in ("sampling", "decisions/0007-reading-tiles")}
    assert pages <= packaged
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_a_wheel_imports_the_pipelines(wheel: Path, tmp_path: Path) -> None:
    python = _make_environment(tmp_path / "environment")
    _install(python, wheel, cwd=tmp_path)
    for file in _pipelines_seen_by(python, cwd=tmp_path):
        assert file.is_file()
        assert file.is_relative_to(tmp_path / "environment")
    program = python.parent / "pydmed-dali"
    assert "# Inference" in _run(program, "docs", "docs/inference.md", cwd=tmp_path)
    assert "sampling" in _run(program, "docs", cwd=tmp_path)


def test_an_editable_install_imports_the_pipelines(tmp_path: Path) -> None:
    copy = _copy_checkout(tmp_path / "copy")
    python = _make_environment(tmp_path / "environment")
    _install(python, "--editable", copy, cwd=tmp_path)
    for file in _pipelines_seen_by(python, cwd=tmp_path):
        assert file.is_file()
        assert file.is_relative_to(copy)


def test_the_plain_checkout_imports_the_pipelines(tmp_path: Path) -> None:
    python = _make_environment(tmp_path / "environment")
    for file in _pipelines_seen_by(python, cwd=CHECKOUT):
        assert file.is_file()
        assert file.is_relative_to(CHECKOUT)
