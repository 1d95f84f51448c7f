"""Prompts of any length are attended to whole, by what ring attention really does with a text.

A video is large enough here that a chip's chunk of keys is longer than a chip's share of the text would be.
"""

from dataclasses import replace
from functools import cache
from itertools import count
from unittest.mock import patch

import numpy as np
import pytest

from mochi_aot.artifacts.schema import Instruction, Program
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.runtime.tensor_files import Embedding
from mochi_aot.runtime.ttnn import executor
from tests.reference_run import Reference, relative_error
from tests.ring_attrs import RING
from tests.ttnn_golden.against_ir import EXACT
from tests.ttnn_golden.lowered_model import LoweredModel, prompt, starting_noise

VIDEO, TEXT = Geometry(128, 192, 13), 256  # 288 tokens, 144 and 36 a chip
ROLES = ["prepare_prompt", "prepare_steps", "denoise"]
SIGMAS, GUIDANCE = linear_quadratic_sigmas(3), 4.5
NOISE = starting_noise(VIDEO)
on_meshes = pytest.mark.parametrize("mesh", [(2, 4), (4, 8)], ids=["2x4", "4x8"])


@pytest.fixture(scope="module")
def expected(bfloat16_checkpoint):
    """What one guided step adds to the noise, by the lengths of the prompts."""
    reference = Reference(bfloat16_checkpoint, VIDEO)
    return cache(lambda lengths: reference.denoise(NOISE, *prompts(lengths), SIGMAS[:2], GUIDANCE) - NOISE)


@pytest.fixture(scope="module")
def model(bfloat16_checkpoint):
    """Makes the model of a mesh."""
    return cache(lambda mesh: LoweredModel.make(bfloat16_checkpoint, mesh, "bfloat16", ROLES, VIDEO).in_float32())


def prompts(lengths: tuple[int, int]) -> list[Embedding]:
    """Of so many tokens each."""
    return [prompt(length, seed) for seed, length in enumerate(lengths)]


def added(model: LoweredModel, lengths: tuple[int, int]) -> np.ndarray:
    """What the lowered step adds to the noise."""
    return model.denoised(NOISE, model.conditioning(*prompts(lengths), SIGMAS, GUIDANCE), 1) - NOISE


@pytest.mark.slow
@on_meshes
@pytest.mark.parametrize("lengths", [(0, 31), (33, 100), (129, 64), (200, 255)])
def test_a_text_is_attended_to_whole(model, expected, mesh, lengths):
    assert relative_error(added(model(mesh), lengths), expected(lengths)) <= EXACT


def with_cut_text(model: LoweredModel) -> LoweredModel:
    """The model as it was lowered before the defect was known: each chip of a ring is given its piece of the text."""
    low = model.programs["denoise"]
    changed = replace(low, program=cut_text(low.program, model.mesh))
    lowerers = {role: lowerer for role, lowerer in model.lowerers.items() if role != "denoise"}
    return replace(model, programs={**model.programs, "denoise": changed}, lowerers=lowerers)


def cut_text(program: Program, mesh: tuple[int, int]) -> Program:
    """Around each ring attention, the text is cut along the ring and gathered again."""
    new = count(1 + max(value for call in program.instructions for value in (*call.operands, *call.results)))
    instructions: list[Instruction] = []
    for call in program.instructions:
        if call.op != RING:
            instructions.append(call)
            continue
        along = {"dim": 2, "axis": call.attrs["axis"]}
        pieces = [next(new) for _ in range(4)]
        for whole, piece in zip(call.operands[3:6], pieces[:3], strict=True):
            instructions.append(Instruction("mesh_partition", [whole], [piece], along, [], call.loc))
        text_buffer = [*call.attrs["text_buffer"][:2], TEXT, call.attrs["text_buffer"][3]]
        operands = [*call.operands[:3], *pieces[:3], call.operands[6]]
        attrs = {**call.attrs, "text_buffer": text_buffer}
        results = [call.results[0], pieces[3]]
        instructions.append(Instruction(RING, operands, results, attrs, call.free, call.loc))
        instructions.append(Instruction("all_gather", pieces[3:], [call.results[1]], along, pieces, call.loc))
    return replace(program, instructions=instructions)


@pytest.mark.slow
@on_meshes
def test_a_text_that_is_cut_along_the_ring_is_not(model, expected, mesh):
    """It is with lengths of whole tiles, or if the defect were not there. Chips are not given such a program."""
    cut, spoiled, whole = with_cut_text(model(mesh)), (200, 255), (224, 64)
    with pytest.raises(BackendError, match="known defect ring-text-share"):
        added(cut, spoiled)
    with patch.object(executor, "known_defect", lambda *_: None):
        assert relative_error(added(cut, spoiled), expected(spoiled)) > 100 * EXACT
        assert relative_error(added(cut, whole), expected(whole)) <= EXACT
        assert relative_error(added(replace(cut, defects=False), spoiled), expected(spoiled)) <= EXACT
