"""The tiny preset, and a LoRA of each kind of its modules, written by diffusers."""

from pathlib import Path

import pytest

from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from tests.compiler.lora import made


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lora") / "mochi"
    write_checkpoint(path, TINY, "diffusers", seed=5)
    return path


@pytest.fixture(scope="session")
def lora(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.diffusers_lora(checkpoint, tmp_path_factory.mktemp("made"))
