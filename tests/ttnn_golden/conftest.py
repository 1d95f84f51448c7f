"""A small model, lowered for two meshes; made once for all tests that want it."""

from collections.abc import Callable
from functools import cache

import pytest
import torch

from mochi_aot.compiler.checkpoint import Checkpoint, open_checkpoint
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from tests.ttnn_golden.faults import ROUNDED_LINKS
from tests.ttnn_golden.lowered_model import CONFIG, LoweredModel, Models
from tests.ttnn_golden.subjects import Subject

Mesh = tuple[int, int]


@pytest.fixture(scope="session")
def bfloat16_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """In bfloat16, as published: what differs in float32 is then the programs' doing."""
    path = tmp_path_factory.mktemp("golden") / "checkpoint"
    write_checkpoint(path, CONFIG, "diffusers", dtype=torch.bfloat16)
    return open_checkpoint(path)


@pytest.fixture(scope="session")
def models(bfloat16_checkpoint: Checkpoint) -> Callable[[Mesh], Models]:
    """Makes the models of a mesh."""
    return cache(lambda mesh: Models.make(bfloat16_checkpoint, mesh))


@pytest.fixture(scope="session")
def subject(bfloat16_checkpoint: Checkpoint, models: Callable[[Mesh], Models]) -> Callable[[Mesh, str], Subject]:
    """Makes the subject of a mesh and a role, or of ROUNDED_LINKS."""

    def make(mesh: Mesh, role: str) -> Subject:
        made = models(mesh)
        if role != ROUNDED_LINKS:
            return Subject.of(made.exact[role], role, made.inputs[role], bfloat16_checkpoint)
        model = LoweredModel.make(bfloat16_checkpoint, mesh, "bfloat8_b", ["denoise"], links_dtype="bfloat8_b")
        return Subject.of(model.in_float32(), "denoise", made.inputs["denoise"], bfloat16_checkpoint)

    return cache(make)
