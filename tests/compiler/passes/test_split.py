"""The passes on the traced denoising step: what leaves the loop, and that the parts compute what the whole did."""

from functools import cache

import numpy as np
import pytest
import torch

from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Checkpoint, Constant, Program
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.passes.rates import rates_of
from mochi_aot.compiler.programs import STEP_CAPACITY
from mochi_aot.compiler.reference.traced_modules import TRACED_MODULES
from mochi_aot.compiler.trace.export import trace
from tests.compiler.numbers import Arrays, assert_same
from tests.compiler.tiny import CONFIG, GEOMETRY, SHAPES, inputs, parameter, programs

STEP_INPUTS = ("sigma", "next_sigma", "guidance_scale")
ROLES = ("prepare_prompt", "prepare_steps", "denoise")
STEPS = 3

# What depends on the timestep or the prompt alone.
CONDITIONING = ("dit.time_embed.", "dit.caption_pool.", "dit.caption_proj.", "dit.final.scale.", "dit.final.shift.")


@cache
def whole() -> Program:
    """The traced step, before any pass."""
    (unit,) = (unit for unit in TRACED_MODULES if unit.name == "denoise")
    program = trace("denoise", lambda: unit.build(CONFIG, GEOMETRY, torch.float32), unit.rates, *unit.outputs)
    verify(program)
    return program


def weights_of(role: str) -> set[str]:
    """Checkpoint names that the program of a role reads."""
    return {param.recipe.name for param in programs()[role].params if isinstance(param.recipe, Checkpoint)}


def is_conditioning(name: str) -> bool:
    return ".mod_x." in name or ".mod_y." in name or name.startswith(CONDITIONING)


def test_no_modulation_weight_is_read_by_the_denoising_program() -> None:
    assert weights_of("denoise")
    assert not [name for name in weights_of("denoise") if is_conditioning(name)]


def test_all_conditioning_weights_are_read_before_the_loop() -> None:
    conditioning = {name for name in SHAPES if name.startswith("dit.") and is_conditioning(name)}
    assert conditioning == weights_of("prepare_prompt") | weights_of("prepare_steps")


def test_every_weight_is_read_by_one_program() -> None:
    read = [name for role in ROLES for name in weights_of(role)]
    # The rotary frequencies are read by the compiler, which computes the tables.
    assert sorted([*read, "dit.pos_frequencies"]) == sorted(name for name in SHAPES if name.startswith("dit."))


def test_rotary_tables_are_constants_of_the_denoising_program() -> None:
    recipes = {param.value: param.recipe for param in programs()["denoise"].params}
    rotations = [op for op in programs()["denoise"].ops if op.opcode == "rope"]
    assert len(rotations) == 2 * CONFIG.dit.layers
    for op in rotations:
        assert all(isinstance(recipes[table], Constant) for table in op.operands[1:])


def test_the_text_is_projected_once_a_prompt() -> None:
    assert "dit.caption_proj.weight" in weights_of("prepare_prompt")
    assert {item.rate for item in programs()["prepare_prompt"].inputs} == {"prompt"}


def test_nothing_before_the_loop_depends_on_the_latent() -> None:
    for role in ("prepare_prompt", "prepare_steps"):
        assert "latent" not in rates_of(programs()[role]).values()


def test_the_step_is_read_from_tables_of_full_length() -> None:
    program = programs()["prepare_steps"]
    assert {item.value.name for item in program.inputs if item.rate == "step"} == set(STEP_INPUTS)
    assert all(item.value.type.shape == (STEP_CAPACITY,) for item in program.inputs if item.rate == "step")
    assert all(output.value.type.shape[0] == STEP_CAPACITY for output in program.outputs)


def schedule() -> Arrays:
    """Tables of guided steps, from noise to video; rows past the last are not read."""
    sigmas = np.linspace(1, 0, STEP_CAPACITY + 1, dtype=np.float32)
    guidance = np.linspace(4, 7, STEP_CAPACITY, dtype=np.float32)
    return {"sigma": sigmas[:-1], "next_sigma": sigmas[1:], "guidance_scale": guidance}


def run_whole(arrays: Arrays, tables: Arrays) -> np.ndarray:
    latents = arrays["latents"]
    for step in range(STEPS):
        row = {name: table[step : step + 1] for name, table in tables.items()}
        latents = run(whole(), arrays | row | {"latents": latents}, parameter)["latents"]
    return latents


def run_parts(arrays: Arrays, tables: Arrays, dtype: str = "float32") -> np.ndarray:
    """prepare_prompt, then prepare_steps, then the loop, connected by names."""
    known = arrays | tables
    parts = programs(dtype=dtype)

    def outputs(role: str) -> Arrays:
        return run(parts[role], {item.value.name: known[item.value.name] for item in parts[role].inputs}, parameter)

    known |= outputs("prepare_prompt")
    known |= outputs("prepare_steps")
    for step in range(STEPS):
        known["step"] = np.array([step], np.int32)
        known |= outputs("denoise")
    return known["latents"]


@pytest.mark.parametrize(("tokens", "negative_tokens"), [(3, 0), (1, 10), (10, 1)])
def test_prepared_steps_equal_whole_steps(tokens: int, negative_tokens: int) -> None:
    arrays = inputs(whole(), seed=1)
    positions = np.arange(CONFIG.text_length)[None]
    arrays["prompt_attention_mask"] = positions < tokens
    arrays["negative_prompt_attention_mask"] = positions < negative_tokens
    prompts = {name: array for name, array in arrays.items() if name not in STEP_INPUTS}
    expected = run_whole(prompts, schedule())
    # Both are float32; products of all steps at once are summed in another order, and guidance multiplies by 7.
    assert_same({"latents": run_parts(prompts, schedule())}, {"latents": expected}, tolerance=1e-5)


def test_in_bfloat16_the_parts_stay_close() -> None:
    """Rounded to 8 bits after every op, in the same places as the whole would be."""
    prompts = {name: array for name, array in inputs(whole(), seed=2).items() if name not in STEP_INPUTS}
    expected = run_whole(prompts, schedule())
    actual = run_parts(prompts, schedule(), dtype="bfloat16")
    assert np.corrcoef(actual.ravel(), expected.ravel())[0, 1] > 0.999
