"""What `import mochi_aot` offers, and that it loads nothing for it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mochi_aot

ROOT = Path(__file__).parents[1]
LARGE = {"numpy", "torch", "ttnn", "click", "safetensors", "tokenizers", "msgpack", "imageio_ffmpeg", "PIL"}


def loaded_after(source: str) -> set[str]:
    """Top-level names of the modules that a fresh process has loaded once it has run `source`."""
    command = [sys.executable, "-c", f"{source}\nimport sys\nprint(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_import_and_a_look_at_the_names_load_nothing() -> None:
    assert not loaded_after("import mochi_aot\ndir(mochi_aot), mochi_aot.__all__, mochi_aot.__version__") & LARGE


def test_loading_a_bundle_is_had_without_a_backend() -> None:
    assert not loaded_after("from mochi_aot import load, Video") & {"torch", "ttnn", "click", "PIL", "transformers"}


def test_every_name_is_there() -> None:
    for name in mochi_aot.__all__:
        assert getattr(mochi_aot, name) is not None
        assert name in dir(mochi_aot)
        assert name.startswith("__") or name in vars(mochi_aot)  # looked up once


def test_what_type_checkers_see_is_what_is_looked_up() -> None:
    """The imports under TYPE_CHECKING, the table and `__all__` say the same."""
    (block,) = (node for node in ast.parse(Path(mochi_aot.__file__).read_text()).body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen.pop("Any") == "typing"
    assert seen == mochi_aot._MODULES
    assert set(mochi_aot.__all__) == {*seen, "__version__"}


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'mochi_aot' has no attribute 'decompile'"):
        _ = mochi_aot.decompile
    with pytest.raises(ImportError, match="cannot import name 'decompile' from 'mochi_aot'"):
        from mochi_aot import decompile  # noqa: F401


def test_nothing_is_imported_before_signals_are_handled() -> None:
    """A signal that comes while typing or importlib is imported would be a traceback."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import os, signal; before = {*sys.modules}"
    code += "; import mochi_aot.tools.commands; print(sorted({*sys.modules} - before))"
    command = [sys.executable, "-S", "-c", code, str(Path(__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "['mochi_aot', 'mochi_aot.tools', 'mochi_aot.tools.commands']\n"
