"""Tests marked `mesh` run on a mock 4x8 mesh, in one process for all: a process can open a mesh of one shape only."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.runtime.ttnn.on_mesh import call, open_mock_mesh


@pytest.fixture(scope="session")
def mesh_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessPoolExecutor]:
    """A process with an open mesh, which runs one call at a time."""
    folder: Path = tmp_path_factory.mktemp("mock")
    with ProcessPoolExecutor(1, get_context("spawn"), open_mock_mesh, (folder,)) as process:
        yield process


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
