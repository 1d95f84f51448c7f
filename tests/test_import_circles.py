"""No module imports itself by way of others, not even inside a function or for type checkers alone."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.test_imports import FILES, PACKAGE

MODULES = {".".join(["mochi_aot", *path.relative_to(PACKAGE).with_suffix("").parts]): path for path in FILES}


def module_of(name: str) -> str | None:
    """The file's module that a dotted name is, or is the package of."""
    for known in (name, f"{name}.__init__"):
        if known in MODULES:
            return known
    return None


def imports(path: Path) -> set[str]:
    """This project's modules that a file's import statements name, wherever they stand."""
    found: set[str | None] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(module_of(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            # `from package import module` names a module; `from module import thing` names what is in one.
            parts = {module_of(f"{node.module}.{alias.name}") or module_of(node.module) for alias in node.names}
            found.update(parts)
    return {name for name in found if name is not None}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle, in order, or none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(name) for name in error.args[1]]
    return []


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circle({name: imports(path) for name, path in MODULES.items()}) == []


def test_a_circle_is_seen_wherever_the_import_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text("def f():\n    from mochi_aot.b import g\n")
    (tmp_path / "b.py").write_text("if TYPE_CHECKING:\n    import mochi_aot.a\n")
    monkeypatch.setattr("tests.test_import_circles.MODULES", {f"mochi_aot.{n}": tmp_path / f"{n}.py" for n in "ab"})
    assert set(circle({f"mochi_aot.{n}": imports(tmp_path / f"{n}.py") for n in "ab"})) == {
        "mochi_aot.a",
        "mochi_aot.b",
    }
