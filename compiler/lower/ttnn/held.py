"""How much of a chip's DRAM a lowered program takes, from the lives of its values, as ttnn's allocator gives it out."""

from collections.abc import Sequence
from math import prod

from mochi_aot.artifacts.schema import Instruction, Program
from mochi_aot.artifacts.tiles import TILE_SIZE, device_bytes
from mochi_aot.compiler.lower.ttnn.chip_constants import Machine
from mochi_aot.compiler.lower.ttnn.lowerer import Tensor
from mochi_aot.compiler.lower.ttnn.seconds import stays
from mochi_aot.compiler.lower.ttnn.traffic import Held

RING = "transformer.ring_joint_scaled_dot_product_attention"
_TURNS = 2  # sets of buffers for what arrives in a ring, which calls use in turns: see runtime/ttnn/context.py
_ALIGNMENT = 32  # bytes of a row-major row in DRAM


def peak_bytes(program: Program, tensors: Sequence[Tensor], machine: Machine) -> int:
    """Return the most bytes of a chip's DRAM alive at once: see `bytes_over_time`."""
    return max(bytes_over_time(program, tensors, machine))


def bytes_over_time(program: Program, tensors: Sequence[Tensor], machine: Machine) -> list[int]:
    """Return the bytes of a chip's DRAM alive before the first instruction, then those during each: inputs, weights and
    the rings' buffers all the time, any other value from the instruction that makes it until the one that frees it.

    `tensors` has what a chip holds of each value, by number. Scratch that an op frees before it returns is not counted.
    """
    size = {tensor.value: allocated(tensor, machine) for tensor in tensors}
    kept = {item.value for item in program.inputs} | {weight.value for weight in program.weights}
    held = sum(size[value] for value in kept) + _buffers(program.instructions, machine)
    owner: dict[int, int] = {}
    sharing: dict[int, int] = {}
    alive = [held]
    for instruction in program.instructions:
        for value in instruction.results:
            owner[value] = _owner(instruction, value, tensors, owner)
            sharing[owner[value]] = sharing.get(owner[value], 0) + 1
            held += size[value] if owner[value] == value else 0
        alive.append(held)
        for value in instruction.free:
            source = owner.get(value, value)
            sharing[source] = sharing.get(source, 0) - 1
            held -= size[source] if sharing[source] == 0 and source not in kept else 0
    return alive


def allocated(tensor: Held, machine: Machine) -> int:
    """Return the bytes of a chip's DRAM that a tensor takes: its pages, tiles or rows, are dealt out to the banks, of
    which each sets as much apart as the one with the most."""
    if tensor.layout == "tile":
        page = int(device_bytes(tensor.dtype, (TILE_SIZE, TILE_SIZE)))
        pages = round(device_bytes(tensor.dtype, tensor.shape)) // page
    else:
        row = int(device_bytes(tensor.dtype, tensor.shape[-1:], "row_major"))
        page, pages = -(-row // _ALIGNMENT) * _ALIGNMENT, prod(tensor.shape[:-1])
    return -(-pages // machine.dram_banks) * page * machine.dram_banks


def _owner(instruction: Instruction, value: int, tensors: Sequence[Tensor], owner: dict[int, int]) -> int:
    """Return the value whose buffer this result has: its own, or what a reshape leaves where it is."""
    if instruction.op != "reshape":
        return value
    (x,) = instruction.operands
    return owner.get(x, x) if stays(tensors[x], tensors[value]) else value


def _buffers(instructions: Sequence[Instruction], machine: Machine) -> int:
    """Return the bytes of the rings' buffers: for keys and for values, by shape, and in turns."""
    kinds: dict[tuple[object, ...], int] = {}
    for instruction in instructions:
        if instruction.op == RING:
            for name in ("buffer", "text_buffer"):
                shape, dtype = tuple(instruction.attrs[name]), instruction.attrs["dtype"]  # type: ignore[arg-type]
                tensor = Tensor(-1, shape, str(dtype))  # type: ignore[arg-type]
                kinds[name, shape, dtype] = 2 * _TURNS * allocated(tensor, machine)
    return sum(kinds.values())
