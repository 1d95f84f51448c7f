"""Shared by all tests: one thread a process, and hypothesis without a deadline."""

import atexit
import os
import shutil
import tempfile

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

# The first example pays for imports and traces, which is no fault of the code under test.
settings.register_profile("mochi", deadline=None)
settings.load_profile("mochi")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """The tiny preset with seeded float32 weights, in Diffusers' layout, opened."""
    from mochi_aot.compiler.checkpoint import open_checkpoint
    from mochi_aot.compiler.checkpoint.presets import TINY
    from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint

    path = tmp_path_factory.mktemp("checkpoint") / "tiny"
    write_checkpoint(path, TINY, "diffusers")
    return open_checkpoint(path)
