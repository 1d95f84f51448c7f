"""pyproject.toml and constraints.txt against the repository."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from setuptools import find_packages

import mochi_aot

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mochi_aot"
FOLDERS = ("artifacts", "compiler", "runtime", "tools")
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement, maxsplit=1)[0].lower()


def requirements() -> list[str]:
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"].values()
    return [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]


def test_setuptools_finds_every_folder_of_modules() -> None:
    """Through the links: a folder without an `__init__.py` would be left out of wheels."""
    files = (path for folder in FOLDERS for path in (PACKAGE / folder).rglob("*.py"))
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in files}
    assert set(find_packages(str(ROOT), include=["mochi_aot*"])) == folders | {"mochi_aot"}


@pytest.mark.slow
def test_wheel_and_source_distribution_hold_all_modules_and_all_that_tests_need(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist")]
    tree = shutil.copytree(ROOT, tmp_path / "tree", symlinks=True, ignore=shutil.ignore_patterns(".*", "demo", "build"))
    shutil.copytree(ROOT / ".ci", tree / ".ci")
    subprocess.run(command, check=True, capture_output=True, cwd=tree)
    (wheel,), (source,) = (tmp_path / "dist").glob("*.whl"), (tmp_path / "dist").glob("*.tar.gz")
    modules = {str(path.relative_to(ROOT)) for folder in FOLDERS for path in (PACKAGE / folder).rglob("*.py")}
    modules |= {"mochi_aot/__init__.py", "mochi_aot/py.typed", "mochi_aot/run.py"}
    trained = (PACKAGE / "tools/training/shapes").rglob("*")
    modules |= {str(path.relative_to(ROOT)) for path in trained if path.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == modules
    with tarfile.open(source) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    kept = {
        path for folder in ("tests", "docs", "examples", ".ci") for path in (ROOT / folder).rglob("*") if path.is_file()
    }
    needed = {str(path.relative_to(ROOT)) for path in kept if "__pycache__" not in path.parts}
    assert modules | needed | {"Makefile", "constraints.txt", "README.md", "LICENSE", "CHANGELOG.md"} <= held
    assert {path.name for path in ROOT.glob("*.md")} <= held


def test_the_package_says_its_version_and_that_it_is_typed() -> None:
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "mochi_aot.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", mochi_aot.__version__)
    assert (PACKAGE / "py.typed").read_bytes() == b""


def test_importing_the_package_loads_nothing_large() -> None:
    code = "import sys, mochi_aot; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"numpy", "torch", "ttnn", "click"} & set(loaded.stdout.split())


@pytest.mark.parametrize("script", ["bench", "bundle", "checkpoint", "compile", "inspect", "run", "verify"])
def test_each_command_line_has_its_module(script: str) -> None:
    assert PYPROJECT["project"]["scripts"][f"mochi-{script}"] == f"mochi_aot.tools.commands.{script}:main"
    assert re.search(r"^def main\(", (PACKAGE / "tools/commands" / f"{script}.py").read_text(), re.MULTILINE)


def test_the_base_install_is_the_thin_runtime() -> None:
    base = {name_of(requirement) for requirement in PYPROJECT["project"]["dependencies"]}
    brought = {"fsspec", "httpx2"}  # by tokenizers, in any case
    assert base - brought == {
        "blake3",
        "click",
        "imageio-ffmpeg",
        "msgpack",
        "numpy",
        "rich",
        "safetensors",
        "tokenizers",
        "ttnn",
    }


def test_requirements_are_bounded_and_pinned() -> None:
    pins = {name.lower() for name in PINS}
    for requirement in requirements():
        assert ">=" in requirement and "<" in requirement, requirement
        assert name_of(requirement) in pins, requirement


def test_constraints_are_names_and_versions_only() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", line), line


def test_the_license_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text
