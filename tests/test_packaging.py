"""pyproject.toml and constraints.txt against the repository."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("artifacts", "compiler", "runtime", "tools")
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement, maxsplit=1)[0].lower()


def requirements() -> list[str]:
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"].values()
    return [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]


def test_the_list_of_packages_equals_the_folders() -> None:
    files = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    folders = {path.parent.relative_to(ROOT).parts for path in files}
    assert PYPROJECT["tool"]["setuptools"]["packages"] == sorted(".".join(["mochi_aot", *parts]) for parts in folders)


def test_folders_are_mapped_to_their_packages() -> None:
    expected = {f"mochi_aot.{folder}": folder for folder in FOLDERS}
    assert PYPROJECT["tool"]["setuptools"]["package-dir"] == expected


def test_every_folder_of_modules_says_what_it_is() -> None:
    for folder in FOLDERS[:3]:
        for path in (ROOT / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), path.parent


@pytest.mark.parametrize("script", ["bench", "checkpoint", "compile", "inspect", "run", "verify"])
def test_each_command_line_has_its_module(script: str) -> None:
    assert PYPROJECT["project"]["scripts"][f"mochi-{script}"] == f"mochi_aot.tools.{script}:main"
    assert re.search(r"^def main\(", (ROOT / "tools" / f"{script}.py").read_text(), re.MULTILINE)


def test_the_base_install_is_the_thin_runtime() -> None:
    base = {name_of(requirement) for requirement in PYPROJECT["project"]["dependencies"]}
    assert base == {"click", "imageio-ffmpeg", "msgpack", "numpy", "safetensors", "tokenizers", "ttnn"}


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
