"""Small seeded checkpoints in both layouts; `*_checkpoint` are shared, and tests that change one take a `*_copy`."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint

Edit = Callable[[dict[str, torch.Tensor]], None]
EditFile = Callable[[Path, Edit], None]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def diffusers_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "diffusers"
    write_checkpoint(folder, TINY, "diffusers")
    return folder


@pytest.fixture(scope="session")
def genmo_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "genmo"
    write_checkpoint(folder, TINY, "genmo")
    return folder


@pytest.fixture
def diffusers_copy(diffusers_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(diffusers_checkpoint, tmp_path / "diffusers"))


@pytest.fixture
def genmo_copy(genmo_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(genmo_checkpoint, tmp_path / "genmo"))


@pytest.fixture
def edit_tensors() -> EditFile:
    """Change the tensors of a safetensors file in place."""

    def edit(path: Path, change: Edit) -> None:
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    return edit


@pytest.fixture
def edit_json() -> Callable[..., None]:
    """Set fields of a JSON file in place."""

    def edit(path: Path, **fields: object) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return edit
