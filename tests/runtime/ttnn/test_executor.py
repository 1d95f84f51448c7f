"""Programs on a mock mesh: shapes, what is freed when, and errors that lead to the instruction."""

import numpy as np
import pytest

from mochi_aot.artifacts.schema import Attr, Instruction, Placement, Program
from mochi_aot.runtime.errors import BackendError
from tests.ring_attrs import RING, ring_attrs
from tests.runtime.ttnn.on_mesh import backend, instruction, program, spec, used

# 48 tiles a chip, 4 a bank of 12.
X = spec([512, 1536], columns=Placement(0, 64), rows=Placement(1, 768))
BYTES = 4 * 2048
ROW = spec([1, 1536], rows=Placement(1, 768))


def ones(shape: list[int]) -> np.ndarray:
    return np.ones(shape, np.float32)


def single(op: str, **attrs: Attr) -> Program:
    """y = op(x)."""
    return program({"x": X}, [], {"y": (1, X)}, [instruction(op, [0], [1], [], **attrs)])


def chain(instructions: list[Instruction], last: int) -> Program:
    return program({"x": X}, [], {"y": (last, X)}, instructions)


@pytest.mark.mesh
def test_outputs_have_the_shapes_that_ttnn_gives() -> None:
    """A matrix product, summed over the rows of the mesh, and gathered over its columns."""
    mesh = backend()
    weight, local, whole = spec([1536, 64], rows=Placement(0, 768)), spec([512, 64]), spec([512, 64], "float32")
    sample = program(
        {"x": X, "w": weight},
        [],
        {"local": (3, spec([512, 64], columns=Placement(0, 64))), "whole": (5, whole)},
        [
            instruction("experimental.minimal_matmul", [0, 1], [2], [], compute="hifi2"),
            instruction("all_reduce", [2], [3], [2], axis=0),
            instruction("all_gather", [3], [4], [], dim=0, axis=1),
            instruction("typecast", [4], [5], [4], dtype="float32"),
        ],
    )
    inputs = {"x": mesh.upload(ones(X.shape), X), "w": mesh.upload(ones(weight.shape), weight)}
    outputs = mesh.load_program(sample).run(inputs)
    assert list(outputs) == ["local", "whole"]
    assert list(outputs["local"].shape) == [64, 64]
    assert mesh.fetch(outputs["whole"], whole).shape == tuple(local.shape)


@pytest.mark.mesh
def test_values_are_freed_when_the_program_says_so() -> None:
    mesh, before = backend(), used()
    sample = chain(
        [
            instruction("silu", [0], [1], []),
            instruction("tanh", [1], [2], [1]),
            instruction("cos", [2], [3], [2]),
        ],
        3,
    )
    inputs = {"x": mesh.upload(ones(X.shape), X)}
    assert used() - before == BYTES
    seen: list[int] = []
    executable = mesh.load_program(sample)
    outputs = executable.run(inputs, lambda index, results: seen.append(used() - before))
    assert seen == [2 * BYTES, 3 * BYTES, 3 * BYTES]  # after the instruction, before what it frees
    assert used() - before == 2 * BYTES
    del outputs, inputs
    assert used() == before


@pytest.mark.mesh
def test_who_watches_sees_each_result() -> None:
    sample = chain([instruction("silu", [0], [1], [0]), instruction("typecast", [1], [2], [1], dtype="float32")], 2)
    mesh = backend()
    seen: list[tuple[int, list[str]]] = []
    inputs = {"x": mesh.upload(ones(X.shape), X)}
    mesh.load_program(sample).run(inputs, lambda index, made: seen.append((index, [str(m.dtype) for m in made])))
    assert seen == [(0, ["DataType.BFLOAT16"]), (1, ["DataType.FLOAT32"])]


@pytest.mark.mesh
def test_a_view_keeps_the_buffer_of_what_was_freed() -> None:
    """This reshape costs nothing: both tensors share a buffer, and the last one gives it back."""
    mesh, before = backend(), used()
    sample = chain(
        [
            instruction("silu", [0], [1], []),
            instruction("reshape", [1], [2], [1], shape=[1, 64, 768]),
            instruction("tanh", [2], [3], []),
            instruction("reshape", [3], [4], [2, 3], shape=[64, 768]),
        ],
        4,
    )
    inputs = {"x": mesh.upload(ones(X.shape), X)}
    seen: list[int] = []
    outputs = mesh.load_program(sample).run(inputs, lambda index, results: seen.append(used() - before))
    assert seen == [2 * BYTES, 2 * BYTES, 3 * BYTES, 3 * BYTES]
    assert used() - before == 2 * BYTES
    assert mesh.fetch(outputs["y"], X).shape == (512, 1536)


@pytest.mark.mesh
@pytest.mark.parametrize("op", ["reshape", "silu"])
def test_inputs_stay_the_callers(op: str) -> None:
    """Even if the program frees them, or its output is a view of one."""
    mesh, before = backend(), used()
    attrs: dict[str, Attr] = {"shape": [64, 768]} if op == "reshape" else {}
    sample = chain([instruction(op, [0], [1], [0], **attrs)], 1)
    executable = mesh.load_program(sample)
    inputs = {"x": mesh.upload(ones(X.shape), X)}
    for _ in range(3):
        outputs = executable.run(inputs)
    del inputs
    assert list(executable.run({"x": outputs["y"]})["y"].shape) == [64, 768]
    del outputs
    assert used() == before


@pytest.mark.mesh
def test_several_results() -> None:
    mesh, before = backend(), used()
    joined, heads = spec([1, 64, 384]), spec([1, 2, 64, 64])
    split = "transformer.split_query_key_value_and_split_heads"
    sample = program(
        {"x": joined},
        [],
        {"v": (3, heads)},
        [instruction(split, [0], [1, 2, 3], [1, 2], num_heads=2, transpose_key=False)],
    )
    inputs = {"x": mesh.upload(ones(joined.shape), joined)}
    outputs = mesh.load_program(sample).run(inputs)
    assert list(outputs["v"].shape) == [1, 2, 64, 64]
    del outputs, inputs
    assert used() == before


@pytest.mark.mesh
def test_instructions_of_a_program_take_turns_with_shared_buffers() -> None:
    """Three ring attentions, two sets of buffers; they go with the program, or as long as it is not used."""
    mesh, before = backend(), used()
    local = spec([1, 4, 512, 128], columns=Placement(2, 64))
    text = spec([1, 4, 256, 128])
    length = spec([1], "uint32", "row_major")
    attrs = ring_attrs([1, 4, 512, 128], [1, 4, 2048, 128], 500, text_size=256)
    sample = program(
        {"x": local, "t": text, "l": length},
        [],
        {"y": (7, local), "u": (8, text)},
        [
            instruction(RING, [0, 0, 0, 1, 1, 1, 2], [3, 4], [], **attrs),
            instruction(RING, [3, 3, 3, 4, 4, 4, 2], [5, 6], [3, 4], **attrs),
            instruction(RING, [5, 5, 5, 6, 6, 6, 2], [7, 8], [5, 6], **attrs),
        ],
    )
    executable = mesh.load_program(sample)
    buffers = used() - before
    pages = [-(-4 * tokens // 32 * 4 // 12) for tokens in (512, 2048)]  # tiles of a buffer in each of 12 banks
    assert buffers == 2 * 2 * sum(pages) * 2048  # keys and values
    inputs = {
        "x": mesh.upload(ones(local.shape), local),
        "t": mesh.upload(ones(text.shape), text),
        "l": mesh.upload(np.array([17]), length),
    }
    outputs = executable.run(inputs)
    assert mesh.fetch(outputs["y"], local).shape == (1, 4, 512, 128)
    del inputs["x"], outputs
    with_buffers = used()
    mesh.free_weights([])
    assert with_buffers - used() == buffers
    executable.run({**inputs, "x": mesh.upload(ones(local.shape), local)})
    assert used() == with_buffers
    del executable, inputs
    assert used() == before


@pytest.mark.mesh
def test_ops_and_attributes_that_are_not_in_the_table() -> None:
    mesh = backend()
    with pytest.raises(
        BackendError, match=r"^program 'sample': instruction 0 \(abs.py:1\): the ttnn backend has no op"
    ):
        mesh.load_program(single("abs"))
    for attrs in ({"alpha": 1}, {"dtype": "float32"}, {"kw": ["weight"]}):
        with pytest.raises(BackendError, match=r"instruction 0 \(silu.py:1\): attributes .* are not those of silu: "):
            mesh.load_program(single("silu", **attrs))


@pytest.mark.mesh
def test_inputs_that_do_not_fit() -> None:
    mesh = backend()
    executable = mesh.load_program(single("silu"))
    with pytest.raises(BackendError, match=r"^program 'sample': expected an input 'x', seen none$"):
        executable.run({})
    with pytest.raises(
        BackendError,
        match=r"input 'x': expected bfloat16\[64, 768\] tile, seen bfloat16\[1, 768\] tile$",
    ):
        executable.run({"x": mesh.upload(ones([1, 1536]), ROW)})


@pytest.mark.mesh
def test_an_op_that_ttnn_refuses() -> None:
    """One line with the program, the instruction, its source, and ttnn's reason; and nothing stays allocated."""
    mesh, before = backend(), used()
    sample = chain([instruction("silu", [0], [1], []), instruction("matmul", [0, 1], [2], [1])], 2)
    with pytest.raises(BackendError) as caught:
        mesh.load_program(sample).run({"x": mesh.upload(ones(X.shape), X)})
    message = str(caught.value)
    assert message.startswith(
        "program 'sample': instruction 1 (matmul.py:1): matmul(bfloat16[64, 768] tile, bfloat16[64, 768] tile) {}"
        " failed: The width of the first tensor must be equal to the height of the second tensor."
    )
    assert "\n" not in message and "backtrace" not in message
    del caught  # its traceback holds the inputs
    assert used() == before


@pytest.mark.mesh
def test_arguments_of_the_wrong_type() -> None:
    mesh = backend()
    with pytest.raises(
        BackendError, match=r"reshape\(.*\) .* failed: ttnn.reshape\(\): incompatible .* shape='flat'\)$"
    ):
        mesh.load_program(single("reshape", shape="flat")).run({"x": mesh.upload(ones(X.shape), X)})


@pytest.mark.mesh
def test_memory_that_runs_out() -> None:
    """The allocators are real: 12 banks of about 1 GiB."""
    mesh, before = backend(), used()
    sample = chain(
        [
            instruction("repeat", [0], [1], [], repeat_dims=[1024, 64]),
            instruction("repeat", [1], [2], [1], repeat_dims=[4, 1]),
        ],
        2,
    )
    with pytest.raises(BackendError, match=r"instruction 1 \(repeat.py:1\).*failed: Out of Memory: Not enough space"):
        mesh.load_program(sample).run({"x": mesh.upload(ones(X.shape), X)})
    assert used() == before
