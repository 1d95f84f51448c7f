"""Low-rank changes of the transformer's matrices, and the file in which diffusers and peft keep them."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mochi_aot.compiler.checkpoint.layouts import DIFFUSERS, layout_sources
from mochi_aot.compiler.checkpoint.tensor_writer import Tensor as Written
from mochi_aot.compiler.checkpoint.tensor_writer import write_tensors
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.dit import AsymmDiT
from mochi_aot.tools.training.settings import TrainingError

PREFIX = "dit."  # of the transformer's canonical names


class LowRank(nn.Module):
    """weight + up @ down; up begins with zeros, so that nothing is changed before training."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, weight.shape[1], device=weight.device) / weight.shape[1] ** 0.5)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """weight, up @ down: [out, in]"""
        return weight + self.up @ self.down


def add_low_rank(dit: AsymmDiT, config: MochiConfig, rank: int) -> dict[str, LowRank]:
    """Let attention's matrices and those behind its SwiGLUs change by a product of rank `rank`, and nothing else.

    Returns the changes by diffusers' names of the modules.
    """
    dit.requires_grad_(False)
    changes = {}
    for key, name in _matrices(config).items():
        module = dit.get_submodule(name.removeprefix(PREFIX))
        change = LowRank(module.get_parameter("weight"), rank)
        parametrize.register_parametrization(module, "weight", change)
        changes[key] = change
    return changes


def merge(dit: AsymmDiT) -> None:
    """Make the changes part of the matrices."""
    for module in list(dit.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def write_lora(path: Path, changes: dict[str, LowRank]) -> None:
    """Write the changes, float32, under the names that diffusers' `load_lora_weights` takes; their scale is one."""
    factors: dict[str, Tensor] = {}
    for key, change in changes.items():
        factors |= {f"{key}.lora_A.weight": change.down, f"{key}.lora_B.weight": change.up}
    write_tensors(path, [_written(key, value.detach().float().cpu()) for key, value in factors.items()])


def merge_lora(dit: AsymmDiT, config: MochiConfig, path: Path) -> None:
    """Add the products that `write_lora` wrote to `path` to the transformer's matrices.

    Raise TrainingError for a file that is not a LoRA of a transformer of these sizes.
    """
    try:
        factors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"{path} is not a whole safetensors file ({error})") from error
    for key, name in _matrices(config).items():
        weight = dit.get_parameter(f"{name.removeprefix(PREFIX)}.weight")
        down, up = (factors.pop(f"{key}.lora_{half}.weight", None) for half in "AB")
        if down is None or up is None or down.ndim != 2 or (up.shape[:1], down.shape[1:]) != _sides(weight):
            raise TrainingError(f"{path} does not hold a LoRA of this model: see {key}")
        with torch.no_grad():
            weight.add_((up.float() @ down.float()).to(weight.device))
    if factors:
        raise TrainingError(f"{path} does not hold a LoRA of this model: {min(factors)} is none of its matrices")


def _sides(weight: Tensor) -> tuple[torch.Size, torch.Size]:
    return weight.shape[:1], weight.shape[1:]


def _written(key: str, value: Tensor) -> Written:
    return Written(key, tuple(value.shape), value.dtype, lambda: value)


def _matrices(config: MochiConfig) -> dict[str, str]:
    """diffusers' name of each module whose weight is one matrix in both -> ours."""
    sources = [source for source in layout_sources(DIFFUSERS, config) if source.component == "transformer"]
    alone = [source for source in sources if len(source.parts) == 1 and len(source.shape) == 2]
    inner = [source for source in alone if ".attn1." in source.key or ".ff" in source.key]
    return {
        f"{source.component}.{source.key.removesuffix('.weight')}": source.parts[0].removesuffix(".weight")
        for source in inner
    }
