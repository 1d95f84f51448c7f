"""Running instruction lists with torch: results on every device, and errors that name the instruction."""

import pytest
import torch

from mochi_aot.artifacts.schema import Placement, Program
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.torch.executor import TorchExecutable
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.types import Value
from tests.runtime.torch.programs import instruction, normal, program, spec

SHAPE = spec([2, 3])


def affine() -> Program:
    """y = x * w + x, and z = -x."""
    return program(
        {"x": SHAPE},
        ["w"],
        {"y": (3, SHAPE), "z": (4, SHAPE)},
        [
            instruction("mul", [0, 1], [2], []),
            instruction("add", [2, 0], [3], [2]),
            instruction("mul_scalar", [0], [4], [0], value=-1.0),
        ],
    )


@pytest.mark.parametrize("mesh", [Mesh(1, 1), Mesh(1, 2), Mesh(2, 2)])
def test_outputs_by_name_on_every_device(mesh: Mesh) -> None:
    x = [normal(device, 2, 3) for device in range(mesh.size)]
    w = [normal(10 + device, 2, 3) for device in range(mesh.size)]
    outputs = TorchExecutable(affine(), mesh, {"w": w}).run({"x": x, "unused": x})
    assert list(outputs) == ["y", "z"]
    for device in range(mesh.size):
        assert torch.equal(outputs["y"][device], x[device] * w[device] + x[device])
        assert torch.equal(outputs["z"][device], -x[device])


@pytest.mark.parametrize("mesh", [Mesh(1, 1), Mesh(1, 2)])
def test_who_watches_sees_each_result_on_every_device(mesh: Mesh) -> None:
    x, w = ([normal(10 * seed + device, 2, 3) for device in range(mesh.size)] for seed in (0, 1))
    seen: list[tuple[int, list[Value]]] = []
    TorchExecutable(affine(), mesh, {"w": w}).run({"x": x}, lambda index, made: seen.append((index, made)))
    assert [index for index, _ in seen] == [0, 1, 2]
    for device in range(mesh.size):
        expected = [x[device] * w[device], x[device] * w[device] + x[device], -x[device]]
        for (_, (value,)), tensor in zip(seen, expected, strict=True):
            assert torch.equal(value[device], tensor)


def test_local_ops_between_collectives() -> None:
    """The sum of squares of [1, 2, 3, 4] sharded over two devices."""
    sharded = spec([4], columns=Placement(0, 2))
    sample = program(
        {"x": sharded},
        [],
        {"y": (3, spec([1]))},
        [
            instruction("mul", [0, 0], [1], [0]),
            instruction("sum", [1], [2], [1], dims=[0], keepdim=True),
            instruction("all_reduce", [2], [3], [2], axis=1),
        ],
    )
    outputs = TorchExecutable(sample, Mesh(1, 2), {}).run({"x": [torch.tensor([1.0, 2]), torch.tensor([3.0, 4])]})
    assert [y.tolist() for y in outputs["y"]] == [[30], [30]]


def test_several_results() -> None:
    visual, text, mask = spec([1, 4, 1, 8]), spec([1, 2, 1, 8]), spec([1, 2], "bool")
    sample = program(
        {"q": visual, "t": text, "m": mask},
        [],
        {"y": (3, visual), "y_text": (4, text)},
        [instruction("joint_attention", [0, 0, 0, 1, 1, 1, 2], [3, 4], [], scale=1.0)],
    )
    inputs: dict[str, Value] = {
        "q": [normal(0, 1, 4, 1, 8)],
        "t": [normal(1, 1, 2, 1, 8)],
        "m": [torch.tensor([[True, False]])],
    }
    outputs = TorchExecutable(sample, Mesh(1, 1), {}).run(inputs)
    assert outputs["y"][0].shape == (1, 4, 1, 8)
    assert outputs["y_text"][0].shape == (1, 2, 1, 8)


def test_an_input_may_be_an_output() -> None:
    x = [normal(0, 2, 3)]
    outputs = TorchExecutable(program({"x": SHAPE}, [], {"y": (0, SHAPE)}, []), Mesh(1, 1), {}).run({"x": x})
    assert outputs["y"][0] is x[0]


def test_weights_are_looked_up_when_a_program_runs() -> None:
    weights: dict[str, Value] = {}
    executable = TorchExecutable(affine(), Mesh(1, 1), weights)
    x = [normal(0, 2, 3)]
    with pytest.raises(BackendError, match=r"^program 'sample': weight 'w' is not loaded; load"):
        executable.run({"x": x})
    weights["w"] = [torch.zeros(2, 3)]
    assert torch.equal(executable.run({"x": x})["y"][0], x[0])


def test_an_op_or_attributes_that_are_not_in_the_tables() -> None:
    where = r"^program 'sample': instruction 0 \((fft|cast).py:1\): "
    sample = program({"x": SHAPE}, [], {"y": (1, SHAPE)}, [instruction("fft", [0], [1], [0])])
    with pytest.raises(BackendError, match=where + "the torch backend has no op 'fft'; compile the bundle"):
        TorchExecutable(sample, Mesh(1, 1), {})
    sample = program({"x": SHAPE}, [], {"y": (1, SHAPE)}, [instruction("cast", [0], [1], [0], dtype="float7")])
    with pytest.raises(BackendError, match=where + r"attributes {'dtype': 'float7'} are not those of cast: KeyError"):
        TorchExecutable(sample, Mesh(1, 1), {})


@pytest.mark.parametrize("mesh", [Mesh(1, 1), Mesh(1, 2)])
def test_a_failing_op_names_itself_and_its_operands(mesh: Mesh) -> None:
    sample = program(
        {"x": SHAPE},
        ["w"],
        {"y": (3, SHAPE)},
        [instruction("add_scalar", [0], [2], [], value=1.0), instruction("add", [2, 1], [3], [2])],
    )
    executable = TorchExecutable(sample, mesh, {"w": [torch.zeros(5)] * mesh.size})
    message = (
        r"^program 'sample': instruction 1 \(add.py:1\): add\(float32\[2, 3\], float32\[5\]\) {} failed: "
        r"The size of tensor a \(3\) must match the size of tensor b \(5\).*$"
    )
    with pytest.raises(BackendError, match=message):
        executable.run({"x": [normal(0, 2, 3)] * mesh.size})


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ([torch.zeros(3, 2)], r"float32\[3, 2\] on 1"),
        ([torch.zeros(2, 3, dtype=torch.int32)], r"int32\[2, 3\] on 1"),
        ([torch.zeros(2, 3)] * 2, r"float32\[2, 3\] on 2"),
    ],
)
def test_a_misshapen_input(value: Value, seen: str) -> None:
    message = r"^program 'sample': input 'x': expected float32\[2, 3\] on 1 devices, seen " + seen
    with pytest.raises(BackendError, match=message):
        TorchExecutable(affine(), Mesh(1, 1), {}).run({"x": value})
