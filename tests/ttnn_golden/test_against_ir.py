"""Faults put into lowered programs are found, at the instruction that has them."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mochi_aot.artifacts.schema import Program
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from tests.reference_run import Reference, relative_error
from tests.ring_attrs import RING
from tests.ttnn_golden.against_ir import EXACT
from tests.ttnn_golden.lowered_model import GEOMETRY, prompt, starting_noise

MESH = (2, 4)
STEPS, GUIDANCE = 3, 4.5
SIGMAS = linear_quadratic_sigmas(STEPS)
PAD = "experimental.neighbor_pad_async"
Fault = Callable[[Program], tuple[Program, int]]


def with_instruction(program: Program, index: int, **changes: Any) -> tuple[Program, int]:
    """The program with one instruction changed, and its index."""
    changed = list(program.instructions)
    changed[index] = replace(changed[index], **changes)
    return replace(program, instructions=changed), index


def nth(program: Program, op: str, count: int = 0, /, **attrs: Any) -> int:
    """The index of an instruction of this op with these attributes, counted from 0 or from the end."""
    found = [
        i
        for i, instruction in enumerate(program.instructions)
        if instruction.op == op and attrs.items() <= instruction.attrs.items()
    ]
    return found[count]


def attribute(op: str, count: int = 0, /, **attrs: Any) -> Fault:
    """Another value of an attribute."""

    def fault(program: Program) -> tuple[Program, int]:
        index = nth(program, op, count)
        assert attrs.keys() <= program.instructions[index].attrs.keys()
        return with_instruction(program, index, attrs={**program.instructions[index].attrs, **attrs})

    return fault


def other_axis(op: str, count: int = 0) -> Fault:
    """A collective along the other axis of the mesh."""

    def fault(program: Program) -> tuple[Program, int]:
        axis = program.instructions[nth(program, op, count)].attrs["axis"]
        return attribute(op, count, axis=[1 - one for one in axis] if isinstance(axis, list) else 1 - axis)(program)

    return fault


def dropped(op: str, count: int = 0) -> Fault:
    """An instruction that hands on what it was given."""
    return lambda program: with_instruction(program, nth(program, op, count), op="to_layout", attrs={"layout": "tile"})


def swapped_tables(program: Program) -> tuple[Program, int]:
    """Cosines for sines."""
    index = nth(program, "experimental.rotary_embedding_llama")
    x, cos, sin, rotation = program.instructions[index].operands
    return with_instruction(program, index, operands=[x, sin, cos, rotation])


def emptied_mask(program: Program) -> tuple[Program, int]:
    """All text tokens count: the mask is compared with itself before it is summed up."""
    index = nth(program, "sum", dim=[1]) - 1
    (mask,) = program.instructions[index].operands
    assert program.instructions[index].op == "typecast"
    changed = with_instruction(program, index, op="eq", operands=[mask, mask], attrs={})
    return changed[0], nth(program, RING)


def other_prompt(program: Program) -> tuple[Program, int]:
    """One prompt's number of tokens for the other's."""
    first, second = nth(program, RING), nth(program, RING, 1)
    length = program.instructions[first].operands[6]
    return with_instruction(program, second, operands=[*program.instructions[second].operands[:6], length])


def second_row(program: Program) -> tuple[Program, int]:
    """The other row of the batch."""
    index = nth(program, "slice")
    attrs = program.instructions[index].attrs
    assert (attrs["slice_start"][0], attrs["slice_end"][0]) == (0, 1)
    begins, ends = ([row, *attrs[key][1:]] for row, key in ((1, "slice_start"), (2, "slice_end")))
    return with_instruction(program, index, attrs={"slice_start": begins, "slice_end": ends})


# Role, fault, and whether the result of the instruction is one of the IR's; if not, the next that is shows the fault.
FAULTS: dict[str, tuple[str, Fault, bool]] = {
    "scale of attention": ("denoise", attribute(RING, -1, scale=0.126), False),
    "epsilon of a norm": ("denoise", attribute("rms_norm", 3, epsilon=1e-3), True),
    "row of the batch": ("denoise", second_row, False),
    "all_reduce": ("denoise", dropped("all_reduce", 1), True),
    "axis": ("denoise", other_axis("all_reduce", -1), True),
    "all_gather": ("denoise", other_axis("all_gather", -1), False),
    "tables": ("denoise", swapped_tables, True),
    "mask": ("denoise", emptied_mask, False),
    "prompt": ("denoise", other_prompt, False),
    "mask of T5": ("encode_text", attribute("add", 0, value=0.0), False),
    "constant of gelu": ("encode_text", attribute("multiply", 4, value=0.0457), False),
    "sum of T5": ("encode_text", dropped("all_reduce", -1), True),
    "least count": ("prepare_prompt", attribute("clamp", min=20.0), True),
    "activation": ("prepare_steps", dropped("silu", 0), True),
    "border": ("decode", attribute(PAD, 2, padding_mode="zeros"), True),
    "halo": ("decode", other_axis(PAD, 2), True),
    "variance": ("decode", attribute("var", 3, correction=True), False),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_where_it_is(subject, name):
    role, fault, is_seen_at_once = FAULTS[name]
    examined = subject(MESH, role)
    program, index = fault(examined.program)
    wrong = examined.first_wrong_of(program)
    assert wrong is not None
    assert wrong.index == index if is_seen_at_once else index in wrong.suspects, str(wrong)


def test_what_is_said_of_a_fault(subject):
    examined = subject(MESH, "encode_text")
    program, index = attribute("multiply", 4, value=0.0457)(examined.program)
    wrong = examined.first_wrong_of(program)
    first, second, *others = str(wrong).splitlines()
    assert re.fullmatch(rf"encode_text, instruction {wrong.index} multiply \(.*\): chip \d+ errs by \d\.\de-\d+", first)
    assert "gelu_tanh(" in second
    loc = program.instructions[index].loc
    assert f"  made from instruction {index} multiply ({loc})" in others


PROMPTS = prompt(200, 1), prompt(150, 2)


@pytest.fixture(scope="module")
def expected(bfloat16_checkpoint):
    """What guided steps add to the noise."""
    noise = starting_noise(GEOMETRY)
    return Reference(bfloat16_checkpoint, GEOMETRY).denoise(noise, *PROMPTS, SIGMAS, GUIDANCE) - noise


def changed_latents(model) -> np.ndarray:
    noise = starting_noise(GEOMETRY)
    return model.denoised(noise, model.conditioning(*PROMPTS, SIGMAS, GUIDANCE), STEPS) - noise


def with_denoise(model, program: Program):
    """The model with another program for the steps."""
    denoise = replace(model.programs["denoise"], program=program)
    lowerers = {role: lowerer for role, lowerer in model.lowerers.items() if role != "denoise"}
    changed = replace(model, lowerers=lowerers, programs={**model.programs, "denoise": denoise})
    changed.weights = dict(model.weights)
    return changed


@pytest.mark.slow
@pytest.mark.parametrize("fault", [emptied_mask, dropped("all_reduce", 1)], ids=["mask", "collective"])
def test_latents_show_a_fault(models, expected, fault):
    made = models(MESH)
    program, _ = fault(made.bundled["denoise"].programs["denoise"].program)
    got = changed_latents(with_denoise(made.exact["denoise"], program))
    assert relative_error(got, expected) > 100 * EXACT


@pytest.mark.slow
def test_latents_show_tables_shifted_by_a_token(models, expected):
    made = models(MESH)
    program = made.bundled["denoise"].programs["denoise"].program
    cos = program.instructions[nth(program, "experimental.rotary_embedding_llama")].operands[1]
    (name,) = (weight.name for weight in program.weights if weight.value == cos)
    faulty = with_denoise(made.exact["denoise"], program)
    table = faulty.weights["denoise"][name]
    shifted = replace(table, pieces=[piece.roll(1, dims=2) for piece in table.pieces])
    faulty.weights["denoise"] = {**faulty.weights["denoise"], name: shifted}
    assert relative_error(changed_latents(faulty), expected) > 100 * EXACT
