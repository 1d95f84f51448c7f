"""The reference's modules, traced and interpreted, compute what they do in torch."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.reference.traced_modules import TRACED_MODULES, TracedModule
from mochi_aot.compiler.torch_dtypes import TORCH_DTYPES
from mochi_aot.compiler.trace.export import trace
from tests.compiler.tiny import CONFIG, GEOMETRY, SHAPES, inputs, parameter, weight
from tests.compiler.trace.traced import numpy

GEOMETRIES = [GEOMETRY, Geometry(height=16, width=80, frames=7)]
BY_NAME = {unit.name: unit for unit in TRACED_MODULES}


@cache
def program_of(name: str, geometry: Geometry, dtype: torch.dtype) -> Program:
    unit = BY_NAME[name]
    program = trace(name, lambda: unit.build(CONFIG, geometry, dtype), unit.rates, *unit.outputs)
    verify(program)
    return program


def module_of(unit: TracedModule, geometry: Geometry, dtype: torch.dtype) -> nn.Module:
    module = unit.build(CONFIG, geometry, dtype)
    # Rotary frequencies stay float32.
    state = {name: weight(name).to(tensor.dtype) for name, tensor in module.state_dict().items()}
    module.load_state_dict(state)
    return module.eval()


def outputs(name: str, geometry: Geometry, dtype: torch.dtype, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the program and of torch, on the same inputs and weights."""
    program, unit = program_of(name, geometry, dtype), BY_NAME[name]
    arrays = inputs(program, seed)
    actual, *rest = (run(program, arrays, parameter)[output] for output in unit.outputs)
    module = module_of(unit, geometry, dtype)
    kinds = {key: item.value.type.dtype for key, item in zip(arrays, program.inputs, strict=True)}
    tensors = {key: torch.from_numpy(array.copy()).to(TORCH_DTYPES[kinds[key]]) for key, array in arrays.items()}
    with torch.no_grad():
        made = module(**tensors)
    expected, *others = made if isinstance(made, tuple) else (made,)
    assert list(map(np.ndarray.tolist, rest)) == [other.tolist() for other in others]  # counts of what is not finite
    return actual, numpy(expected)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("name", [unit.name for unit in TRACED_MODULES])
def test_float32(name: str, geometry: Geometry) -> None:
    """Both compute in float32 in the order of the same ops, but sum products in another order.

    The encoder's Fourier features multiply a pixel, rounded to 2^-25, by 2 pi 2^7, before a sine that is passed on.
    """
    tolerance = 1e-4 if name == "encode" else 1e-5
    actual, expected = outputs(name, geometry, torch.float32, seed=0)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    if actual.dtype == np.uint8:
        # A value within rounding of a half goes either way.
        difference = np.abs(actual.astype(int) - expected.astype(int))
        assert difference.max() <= 1
        assert difference.mean() < 1e-3
    else:
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("name", [unit.name for unit in TRACED_MODULES])
def test_bfloat16(name: str) -> None:
    """Rounded after the same ops; where one rounding tips, the difference spreads through what follows."""
    actual, expected = outputs(name, GEOMETRY, torch.bfloat16, seed=1)
    assert np.corrcoef(actual.ravel().astype(float), expected.ravel().astype(float))[0, 1] > 0.999


@pytest.mark.parametrize("unit", TRACED_MODULES, ids=lambda unit: unit.name)
def test_every_weight_is_a_parameter_of_its_canonical_name_and_shape(unit: TracedModule) -> None:
    program = program_of(unit.name, GEOMETRY, torch.float32)
    checkpoint = {p.value.name: p.value.type.shape for p in program.params if not p.value.name.startswith("const.")}
    prefix = {"encode_text": "text.", "denoise": "dit.", "decode": "decoder.", "encode": "encoder."}[unit.name]
    assert checkpoint == {name: shape for name, shape in SHAPES.items() if name.startswith(prefix)}


@pytest.mark.parametrize("unit", TRACED_MODULES, ids=lambda unit: unit.name)
def test_every_op_says_where_it_comes_from(unit: TracedModule) -> None:
    for op in program_of(unit.name, GEOMETRY, torch.float32).ops:
        file, _, line = op.loc.partition(".py:")
        assert file.split("/")[0] in ("reference", "t5", "transformers"), op.loc
        assert line.isdecimal()


def test_composite_ops_stay_whole() -> None:
    opcodes = [op.opcode for op in program_of("denoise", GEOMETRY, torch.float32).ops]
    layers = CONFIG.dit.layers
    assert opcodes.count("joint_attention") == layers
    assert opcodes.count("rope") == 2 * layers
    # Of a block: two inputs, two queries, two keys; three more a stream, the last block's text aside; one at the end.
    assert opcodes.count("rms_norm") == 9 * layers + 3 * (layers - 1) + 1


def test_the_text_encoder_attends_in_one_op_a_layer() -> None:
    opcodes = [op.opcode for op in program_of("encode_text", GEOMETRY, torch.float32).ops]
    assert opcodes.count("attention") == CONFIG.text.num_layers
