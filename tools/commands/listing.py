"""A program as text: one line an instruction, in the notation of the compiler's IR."""

import json

from mochi_aot.artifacts.schema import (
    Instruction,
    Placement,
    Program,
    ProgramInput,
    ProgramOutput,
    TensorSpec,
    Weight,
)


def listing(program: Program, weights: dict[str, Weight]) -> str:
    """Return the whole program. Inputs are `%name`, weights `@name`, other values `%number`; shapes are global.

    Types stand where the bundle knows them: at inputs, weights and outputs.
    """
    names = {source.value: f"%{source.name}" for source in program.inputs}
    names |= {weight.value: f"@{weight.name}" for weight in program.weights}
    lines = [f"program {program.name}, plan {program.plan} {{"]
    lines += [f"  {_input(source)}" for source in program.inputs]
    lines += [f"  {_weight(weights[weight.name])}" for weight in program.weights]
    lines += [f"  {_instruction(instruction, names)}" for instruction in program.instructions]
    lines += [f"  {_output(output, names)}" for output in program.outputs]
    return "\n".join([*lines, "}"])


def _input(source: ProgramInput) -> str:
    return f"input %{source.name} : {spec_text(source.spec)} rate={source.rate}"


def _weight(weight: Weight) -> str:
    return f"weight @{weight.name} : {_tensor(weight.dtype, weight.local_shape)} on each device"


def _instruction(instruction: Instruction, names: dict[int, str]) -> str:
    results = ", ".join(_name(value, names) for value in instruction.results)
    operands = ", ".join(_name(value, names) for value in instruction.operands)
    attrs = ", ".join(f"{key}={json.dumps(value)}" for key, value in instruction.attrs.items())
    return f"{results} = {instruction.op}({operands})" + (f" {{{attrs}}}" if attrs else "") + f"  # {instruction.loc}"


def _output(output: ProgramOutput, names: dict[int, str]) -> str:
    return f"return {json.dumps(output.name)} {_name(output.value, names)} : {spec_text(output.spec)}"


def _name(value: int, names: dict[int, str]) -> str:
    return names.get(value, f"%{value}")


def spec_text(spec: TensorSpec) -> str:
    """`float32[1,512]`, and if an axis of the mesh cuts it `float32[1,512]{R,S(1:128)}`: dim 1 in pieces of 128."""
    text = _tensor(spec.dtype, spec.shape)
    if any(spec.placements):
        text += "{" + ",".join(map(_placement, spec.placements)) + "}"
    return text


def _placement(placement: Placement | None) -> str:
    return "R" if placement is None else f"S({placement.dim}:{placement.chunk})"


def _tensor(dtype: str, shape: list[int]) -> str:
    return f"{dtype}[{','.join(map(str, shape))}]"
