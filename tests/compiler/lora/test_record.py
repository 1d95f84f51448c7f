"""What a bundle keeps of its LoRAs: a host adds, to what it holds of the base, what the compiler has merged."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mochi_aot.artifacts.delta_schema import LoraRecord, TunedWeight
from mochi_aot.artifacts.low_rank import addition, factor_array
from mochi_aot.compiler.checkpoint import open_checkpoint
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.ir.program import Checkpoint, Concat, Param, Recipe, Value
from mochi_aot.compiler.ir.types import REPLICATE, Shard, TensorType
from mochi_aot.compiler.lora.lora import read_lora
from mochi_aot.compiler.lora.record import record_of
from mochi_aot.compiler.lora.tuned import TunedCheckpoint
from mochi_aot.compiler.lower.target import FormedParam
from mochi_aot.compiler.lower.ttnn.prepare import PLAIN, SWIGLU, TRANSPOSED, unfolded_by
from mochi_aot.compiler.lower.weights import local_tensor, weight_name, weight_source

MESH, R = (2, 2), REPLICATE
GATE, UP = "dit.blocks.0.mlp_x.gate.weight", "dit.blocks.0.mlp_x.up.weight"
UNTOUCHED = "dit.time_embed.fc2.weight"
# Rows cut one way, columns, both, rows over both axes, and with padding: 512 rows as 2 of 288.
CUTS = [(R, R), (Shard(0, 256), R), (R, Shard(1, 96)), (Shard(0, 256), Shard(1, 96)), (Shard(0, 256), Shard(0, 128))]
PADDED = (Shard(0, 288), R)


@pytest.fixture(scope="module")
def tuned(checkpoint: Path, lora: Path) -> TunedCheckpoint:
    """Twice the same LoRA, at other strengths: two products at each place."""
    loras = [read_lora(lora, TINY.dit, strength) for strength in (0.7, -0.2)]
    return TunedCheckpoint(open_checkpoint(checkpoint), loras)


def joined(*names: str, cuts: tuple = (R, R)) -> Param:
    """Parameters [512, 192] above each other."""
    type = TensorType((512, 192), "float32", cuts)
    rows = tuple(Shard(0, p.chunk * len(names)) if isinstance(p, Shard) and p.dim == 0 else p for p in cuts)
    recipe: Recipe = Concat(tuple((Checkpoint(name), type) for name in names), 0)
    return Param(Value("w", TensorType((512 * len(names), 192), "float32", rows)), recipe)


def recorded(param: Param, tuned: TunedCheckpoint, form: str) -> tuple[LoraRecord, list[np.ndarray]] | None:
    found = record_of([FormedParam("w", param, form)], tuned, MESH)
    if found is None:
        return None
    return found[0], [factor_array(factor, memoryview(found[1])) for factor in found[0].factors]


@pytest.mark.parametrize("preparation", [PLAIN, TRANSPOSED, SWIGLU], ids=str)
@pytest.mark.parametrize("cuts", [*CUTS, PADDED], ids=str)
def test_the_base_and_what_is_added_are_the_merged_weight(tuned: TunedCheckpoint, cuts: tuple, preparation) -> None:
    """Bit by bit: sums are made in float64 by both, and rounded to float32 and added in it."""
    param = joined(GATE, UP, cuts=cuts)
    found = recorded(param, tuned, str(preparation))
    assert found is not None
    (weight,), factors = found[0].weights, found[1]
    assert len(weight.products) == len(factors) == 4  # of two parts, twice; of one module of the file, read twice
    for device in ((0, 0), (0, 1), (1, 0), (1, 1)):
        base, merged = (
            preparation(local_tensor(param.recipe, param.value.type, device, source)) for source in (tuned.base, tuned)
        )
        added = torch.from_numpy(addition(weight, factors, device, list(base.shape)))
        assert torch.equal(base + added, merged) and not torch.equal(base, merged)


def test_what_a_record_is_about(tuned: TunedCheckpoint) -> None:
    """The source is that of the weight without LoRAs, by which a delta knows its base."""
    param = joined(GATE, UP)
    found = recorded(param, tuned, "plain")
    assert found is not None
    (weight,) = found[0].weights
    assert weight == TunedWeight("w", weight_source("w", param.recipe, MESH, tuned.base), "plain", weight.products)
    assert weight.source != weight_source("w", param.recipe, MESH, tuned)
    assert sorted({product.scale for product in weight.products}) == pytest.approx([-0.2 * 2, 0.7 * 2])  # alpha / rank
    untouched = Param(Value("w", TensorType((192, 192), "float32", (R, R))), Checkpoint(UNTOUCHED))
    assert weight_name(untouched).startswith(UNTOUCHED) and recorded(untouched, tuned, "plain") is None


def test_what_no_host_makes_again_is_left_out(tuned: TunedCheckpoint) -> None:
    assert recorded(joined(GATE, UP), tuned, str(unfolded_by(2))) is None
    beside = Concat(tuple((Checkpoint(name), TensorType((512, 192), "float32", (R, R))) for name in (GATE, UP)), 1)
    assert recorded(Param(Value("w", TensorType((512, 384), "float32", (R, R))), beside), tuned, "plain") is None
