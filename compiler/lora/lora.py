"""One LoRA: its file, validated against the model, as changes of parameters by their canonical names."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from mochi_aot.artifacts.regular_file import open_regular
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.finite import check_finite
from mochi_aot.compiler.checkpoint.json_config import read_json
from mochi_aot.compiler.checkpoint.naming import Shapes, dit_shapes
from mochi_aot.compiler.checkpoint.table import Source
from mochi_aot.compiler.lora.errors import LoraError
from mochi_aot.compiler.lora.keys import ALPHA, DOWN, UP, modules, nearest, split_key
from mochi_aot.compiler.lora.scale import Scales
from mochi_aot.compiler.reference.config import DiTConfig

PEFT_CONFIG = "adapter_config.json"  # that peft puts beside adapter_model.safetensors
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, eq=False)
class Factors:
    """A product scale * up @ down: up [out, rank], down [rank, in], in the dtype in which the file has them."""

    up: torch.Tensor
    down: torch.Tensor
    scale: float


@dataclass(frozen=True, eq=False)
class Change:
    """What is added to one parameter: `count` rows of a product from row `first` on."""

    factors: Factors
    first: int
    count: int


@dataclass(frozen=True)
class Lora:
    """Changes of parameters, by their canonical names."""

    path: Path
    strength: float
    changes: dict[str, Change]


def read_lora(path: Path, config: DiTConfig, strength: float = 1.0, check_weights: bool = True) -> Lora:
    """Read the LoRA in a safetensors file, in Genmo's, diffusers', peft's or ComfyUI's keys.

    `strength` multiplies all of it. With `check_weights` its numbers must be finite. Raise LoraError naming the file
    for one that is no whole LoRA of a transformer of these sizes.
    """
    tensors, notes = _read(path)
    try:
        beside = path.parent / PEFT_CONFIG
        scales = Scales(notes, read_json(beside) if beside.is_file() else None)
        known, shapes, changes = modules(config), dit_shapes(config), dict[str, Change]()
        for module, keys in _halves(tensors, known).items():
            halves = {half: _matrix(key, tensors[key], check_weights) for half, key in keys.items()}
            factors = _factors(module, halves, known[module], scales, strength)
            changes |= _changes(known[module], factors, shapes)
    except (LoraError, CheckpointError) as error:
        raise LoraError(f"{path}: {error}") from error
    return Lora(path, strength, changes)


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return all tensors of a file, and the notes in its header."""
    try:
        with open_regular(path), safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118  no mapping
    except FileNotFoundError:
        raise LoraError(f"{path} is missing: give the file of a LoRA") from None
    except (SafetensorError, OSError) as error:
        raise LoraError(f"{path} is not a whole safetensors file ({error}): copy it again") from error


def _halves(tensors: Mapping[str, torch.Tensor], known: Mapping[str, Source]) -> dict[str, dict[str, str]]:
    """Return the keys of each module's halves. Raise LoraError for keys that are no LoRA's, or of no module."""
    halves: dict[str, dict[str, str]] = {}
    for key in tensors:
        found = split_key(key)
        if found is None:
            raise LoraError(f"{key} is no key of a LoRA, such as {next(iter(known))}.lora_A.weight")
        module, half = found
        if module not in known:
            raise LoraError(f"{key} is of no module of the transformer; the nearest are {nearest(module, known)}")
        if half in halves.setdefault(module, {}):
            raise LoraError(f"{halves[module][half]} and {key} are both about {module}")
        halves[module][half] = key
    if not halves:
        raise LoraError("it holds no tensors, expected those of a LoRA")
    for module, keys in halves.items():
        if absent := [half for half in (DOWN, UP) if half not in keys]:
            raise LoraError(f"{module} has only {next(iter(keys.values()))}: its {absent[0]} half is missing")
    return halves


def _matrix(key: str, tensor: torch.Tensor, check_weights: bool) -> torch.Tensor:
    """Return a factor as a matrix, and alpha, which has no dimensions, as [1, 1]; kernels of convolutions too."""
    if tensor.dtype not in DTYPES:
        raise LoraError(f"{key} is {str(tensor.dtype).removeprefix('torch.')}, expected float32, bfloat16 or float16")
    if tensor.numel() == 0:
        raise LoraError(f"{key} has shape {list(tensor.shape)}, which holds no numbers")
    if check_weights:
        check_finite(tensor, 0, key)
    return tensor.reshape(tensor.shape[0] if tensor.ndim else 1, -1)


def _factors(
    module: str, halves: Mapping[str, torch.Tensor], source: Source, scales: Scales, strength: float
) -> Factors:
    """Return a module's product. The embedding of patches is a product with a matrix too."""
    up, down = halves[UP], halves[DOWN]
    out, size = source.shape[0], prod(source.shape[1:])
    if up.shape[0] != out or down.shape[1] != size or up.shape[1] != down.shape[0]:
        raise LoraError(
            f"{module} has factors {list(up.shape)} and {list(down.shape)}, expected [{out}, rank] and [rank, {size}]: "
            "this LoRA is of a model of other sizes"
        )
    alpha = halves[ALPHA].reshape(-1)[0].item() if ALPHA in halves else None
    return Factors(up, down, strength * scales.scale(module, down.shape[0], alpha))


def _changes(source: Source, factors: Factors, shapes: Shapes) -> dict[str, Change]:
    """Return the change of each parameter that is stacked in a module's weight."""
    first, changes = 0, {}
    for part in source.parts:
        count = shapes[part][0]
        changes[part] = Change(factors, first, count)
        first += count
    return changes
