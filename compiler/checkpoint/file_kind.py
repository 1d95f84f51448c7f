"""What a file is that was taken for one of tensors, by its first bytes: said in a word where it is something else."""

from pathlib import Path
from typing import BinaryIO

from mochi_aot.compiler.checkpoint.errors import CheckpointError

SAFETENSORS, GGUF = "safetensors", "GGUF"

_GGUF_MAGIC = b"GGUF"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04")  # torch.save, since 1.6 and before
_PAGES = (b"<!doctype", b"<html")
_FIRST_BYTES = 128


def check_not_pointer(path: Path, data: bytes) -> None:
    """Raise CheckpointError if the contents of a file are a Git LFS pointer instead of what it points to."""
    if data.startswith(_LFS_POINTER):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the file itself: run git lfs pull in its folder")


def file_kind(path: Path, file: BinaryIO) -> str:
    """Return SAFETENSORS or GGUF. Raise CheckpointError for what is evidently something else, with what to do."""
    first = file.read(_FIRST_BYTES)
    file.seek(0)
    check_not_pointer(path, first)
    if first.startswith(_PICKLES):
        raise CheckpointError(
            f"{path} is a file of torch.save, which can run code when it is loaded: {pickle_advice(path)}"
        )
    if first.lower().lstrip().startswith(_PAGES):
        raise CheckpointError(f"{path} is a web page, not weights: download it again, from .../resolve/main/...")
    return GGUF if first.startswith(_GGUF_MAGIC) else SAFETENSORS


def pickle_advice(path: Path) -> str:
    """Return how a file of torch.save becomes one of safetensors, or in T5's folder, that folder a new one."""
    if (path.parent / "config.json").is_file():
        folder = path.parent
        return (
            f"""convert T5 with python -c "from transformers import T5EncoderModel as T5; """
            f"""T5.from_pretrained('{folder}').save_pretrained('{folder}-safetensors')" """
            f"and give --text-encoder {folder}-safetensors"
        )
    out = path.with_suffix(".safetensors")
    return (
        f"""convert it with python -c "import torch; from safetensors.torch import save_file; """
        f"""save_file(torch.load('{path}', map_location='cpu', weights_only=True), '{out}')" and give {out}"""
    )
