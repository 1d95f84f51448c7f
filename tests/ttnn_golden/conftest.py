"""A small model, lowered for two meshes; made once for all tests that want it."""

from collections.abc import Callable
from functools import cache

import pytest
import torch

from mochi_aot.compiler.checkpoint import Checkpoint, open_checkpoint
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from tests.ttnn_golden.lowered_model import CONFIG, Models


@pytest.fixture(scope="session")
def bfloat16_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """In bfloat16, as published: what differs in float32 is then the programs' doing."""
    path = tmp_path_factory.mktemp("golden") / "checkpoint"
    write_checkpoint(path, CONFIG, "diffusers", dtype=torch.bfloat16)
    return open_checkpoint(path)


@pytest.fixture(scope="session")
def models(bfloat16_checkpoint: Checkpoint) -> Callable[[tuple[int, int]], Models]:
    """Makes the models of a mesh."""
    return cache(lambda mesh: Models.make(bfloat16_checkpoint, mesh))
