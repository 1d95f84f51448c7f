"""Weights of eight bits with a scale, as ComfyUI stores them: beside X.weight a number X.scale_weight.

Later files call it X.weight_scale, and say in X.comfy_quant how X is stored. Scales of activations are of no use here.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from mochi_aot.artifacts.safetensors_header import Entry
from mochi_aot.compiler.checkpoint.errors import CheckpointError

_SCALES = (".scale_weight", ".weight_scale")
_UNUSED = (".scale_input", ".input_scale")
_MARK = "scaled_fp8"  # an empty tensor of the dtype
_NOTES, _MAX_NOTE_BYTES = ".comfy_quant", 1 << 16
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_FORMATS = ("float8_e4m3fn", "float8_e5m2")

Read = Callable[[Entry], bytes]


def split_scales(path: Path, tensors: Mapping[str, Entry], read: Read) -> tuple[dict[str, Entry], dict[str, float]]:
    """Return the tensors without scales and marks, and the scales by the keys of their weights.

    Raise CheckpointError for a scale that is not one number, or without a weight, and for weights stored otherwise.
    """
    kept, scales = {}, {}
    for key, entry in tensors.items():
        if key.rpartition(".")[2] == _MARK or key.endswith(_UNUSED):
            continue
        if key.endswith(_NOTES):
            _check_format(f"{path}: {key}", read(entry) if entry.nbytes <= _MAX_NOTE_BYTES else b"")
        elif key.endswith(_SCALES):
            weight = f"{key.rpartition('.')[0]}.weight"
            scales[weight] = _scale(f"{path}: {key}", entry, read)
        else:
            kept[key] = entry
    for key in scales:
        if key not in kept or not kept[key].dtype.startswith("F8_"):
            raise CheckpointError(f"{path}: {key} has a scale, but is no weight of eight bits: copy the file again")
    return kept, scales


def _scale(what: str, entry: Entry, read: Read) -> float:
    dtype = _DTYPES.get(entry.dtype)
    if dtype is None or entry.nbytes != dtype.itemsize:
        raise CheckpointError(
            f"{what} is {entry.dtype} {list(entry.shape)}, and scales of one number are read: "
            "take the bf16 or fp16 file of the same model"
        )
    return float(torch.frombuffer(bytearray(read(entry)), dtype=dtype))


def _check_format(what: str, data: bytes) -> None:
    try:
        name = json.loads(data).get("format")
    except (ValueError, AttributeError):
        name = None
    if name not in _FORMATS:
        raise CheckpointError(
            f"{what} says {name}, and of such formats {', '.join(_FORMATS)} are read: take the bf16 file of the model"
        )
