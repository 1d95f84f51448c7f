"""Tests marked `mesh` run on a mock 4x8 mesh, in one process for all: a process can open a mesh of one shape only."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import pytest

from mochi_aot.runtime.ttnn import fixed_path
from tests.runtime.ttnn.on_mesh import call, open_mock_mesh

NUMBER = 1000  # of the open folder by which ttnn knows the cache, see runtime/ttnn/fixed_path.py


@pytest.fixture(scope="session")
def mesh_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessPoolExecutor]:
    """A process with an open mesh, which runs one call at a time."""
    folder: Path = tmp_path_factory.mktemp("mock")
    with ProcessPoolExecutor(1, get_context("spawn"), open_mock_mesh, (folder,)) as process:
        yield process


@pytest.fixture
def fresh_number(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that has not imported ttnn, and has given the number of fixed_path to no folder."""
    monkeypatch.delitem(sys.modules, "ttnn", raising=False)
    monkeypatch.setattr(fixed_path, "_taken", [])
    try:
        kept = os.dup(NUMBER)
        os.close(NUMBER)
    except OSError:
        kept = None
    yield
    with suppress(OSError):
        os.close(NUMBER)
    if kept is not None:
        os.dup2(kept, NUMBER, inheritable=True)
        os.close(kept)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a marked test in the process with the mesh."""
    if pyfuncitem.get_closest_marker("mesh") is None:
        return None
    process = pyfuncitem._request.getfixturevalue("mesh_process")
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    failure = process.submit(call, pyfuncitem.module.__name__, pyfuncitem.originalname, arguments).result()
    if failure is not None:
        pytest.fail(failure, pytrace=False)
    return True
