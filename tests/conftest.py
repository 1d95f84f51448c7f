"""Shared by all tests: one thread a process, and hypothesis without a deadline."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

# Before torch or numpy is imported, here and in the processes that tests start: small tensors gain nothing from
# threads, and test runs share a machine.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# What is kept for a user, such as kernels, is kept for these tests alone.
os.environ["MOCHI_CACHE"] = tempfile.mkdtemp(prefix="mochi-tests-")
# No test needs the network; those that fetch have a server of their own, which may be slow on a busy machine.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_ETAG_TIMEOUT"] = os.environ["HF_HUB_DOWNLOAD_TIMEOUT"] = "300"

import pytest
from hypothesis import settings

atexit.register(shutil.rmtree, os.environ["MOCHI_CACHE"], ignore_errors=True)

TRACER = "mochi_aot.compiler.programs"

# The first example pays for imports and traces, which is no fault of the code under test.
settings.register_profile("mochi", deadline=None)
settings.load_profile("mochi")


@pytest.fixture(scope="session", autouse=True)
def traced_once() -> Iterator[None]:
    """Trace each module for one configuration, geometry and dtype once: torch.export takes most of a small compile.

    Traces are kept as text, as `compiler/ir` reads it, so that no test is given what another one holds. What tests
    tracing itself calls trace.export.
    """
    programs = sys.modules.get(TRACER)
    if programs is None:  # no test that was collected compiles
        yield
        return
    from mochi_aot.compiler.ir.parser import parse
    from mochi_aot.compiler.ir.text import constants_of, to_text

    trace, kept = programs._traced, {}

    def traced(unit: Any, *chosen: Any) -> Any:
        key = (unit.name, repr(chosen))
        if key not in kept:
            program = trace(unit, *chosen)
            kept[key] = to_text(program), constants_of(program)
        return parse(*kept[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "_traced", traced)
        yield


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """The tiny preset with seeded float32 weights, in Diffusers' layout, opened."""
    from mochi_aot.compiler.checkpoint import open_checkpoint
    from mochi_aot.compiler.checkpoint.presets import TINY
    from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint

    path = tmp_path_factory.mktemp("checkpoint") / "tiny"
    write_checkpoint(path, TINY, "diffusers")
    return open_checkpoint(path)
