"""Which LoRAs a delta can hold for a bundle whose checkpoint is not there."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mochi_aot.compiler import lora_delta
from mochi_aot.compiler.ir.program import Checkpoint, Param, Value
from mochi_aot.compiler.ir.types import REPLICATE, TensorType
from mochi_aot.compiler.lora.errors import LoraError
from mochi_aot.compiler.lora.lora import Change, Factors, Lora
from mochi_aot.compiler.lower.target import FormedParam

MATRIX = TensorType((2, 3), "float32", (REPLICATE, REPLICATE))


def held(weight: str, parameter: str, form: str = "plain") -> FormedParam:
    return FormedParam(weight, Param(Value(weight, MATRIX), Checkpoint(parameter)), form)


def lora(scale: float, *parameters: str) -> Lora:
    factors = Factors(torch.ones(2, 1), torch.ones(1, 3), scale)
    return Lora(Path("style"), 1.0, {name: Change(factors, 0, 2) for name in parameters})


@pytest.mark.parametrize(
    ("params", "lora", "problem"),
    [
        ([held("w", "a")], lora(0.0, "a"), r"style:1 changes nothing: its strength is 0"),
        ([held("w", "a")], lora(1.0, "a", "b"), r"style:1: b is not held as a matrix"),
        ([held("w", "a", "unfolded")], lora(1.0, "a"), r"style:1: a is not held as a matrix"),
        ([held("w", "a"), held("v", "a", "unfolded")], lora(1.0, "a"), r"a is not held .*mochi-compile --lora"),
    ],
    ids=["nothing", "not in a weight", "in no matrix", "not in matrices alone"],
)
def test_what_no_delta_holds(
    params: list[FormedParam], lora: Lora, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora_delta, "TransformerWeights", lambda bundle: SimpleNamespace(params=lambda: params))
    bundle: Any = None
    with pytest.raises(LoraError, match=problem):
        lora_delta.record_for(bundle, [lora])


def test_what_a_delta_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each weight that a parameter is in, and no others."""
    params = [held("w", "a"), held("other", "c"), held("v", "a", "transposed")]
    monkeypatch.setattr(lora_delta, "TransformerWeights", lambda bundle: SimpleNamespace(params=lambda: params))
    bundle: Any = None
    record, data = lora_delta.record_for(bundle, [lora(0.5, "a"), lora(0.0, "c")])
    assert [(weight.name, weight.form) for weight in record.weights] == [("w", "plain"), ("v", "transposed")]
    assert len(record.factors) == 2 and len(data) == 4 * (2 + 3)
