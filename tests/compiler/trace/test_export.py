"""Tracing: names, rates, constants, places, and what cannot be traced."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Checkpoint, Constant
from mochi_aot.compiler.ir.text import to_text
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.trace.export import trace
from tests.compiler.trace.traced import FunctionModule, check, interpret, opcodes, traced

X = torch.tensor([[1.0, 2.0, 3.0, 4.0]])


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(4, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.gate(x))


class Model(nn.Module):
    """A module in a module, with a parameter that is used twice and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()
        self.shift = nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
        self.idle = nn.Parameter(torch.zeros(7))

    def forward(self, x: Tensor, prompt: Tensor) -> Tensor:
        return self.inner(x) + self.shift + self.inner(prompt)

    def example_inputs(self) -> dict[str, Tensor]:
        return {"latents": torch.zeros(3, 4), "prompt": torch.zeros(3, 4)}


def line_of(text: str) -> int:
    """Where this file has a line of code."""
    (number,) = [n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if line.strip() == text]
    return number


def test_a_module_as_text() -> None:
    program = trace("step", Model, {"prompt": "prompt"}, "velocity")
    verify(program)
    inner = f"trace/test_export.py:{line_of('return torch.tanh(self.gate(x))')}"
    outer = f"trace/test_export.py:{line_of('return self.inner(x) + self.shift + self.inner(prompt)')}"
    assert to_text(program) == (
        "program @step {\n"
        "  input %latents : f32[3,4] rate=latent\n"
        "  input %prompt : f32[3,4] rate=prompt\n"
        '  param %shift : bf16[2] = checkpoint("shift")\n'
        '  param %idle : f32[7] = checkpoint("idle")\n'
        '  param %inner.gate.weight : f32[2,4] = checkpoint("inner.gate.weight")\n'
        f'  %0 = linear(%latents, %inner.gate.weight) : f32[3,2]  loc "{inner}"\n'
        f'  %1 = tanh(%0) : f32[3,2]  loc "{inner}"\n'
        f'  %2 = cast(%shift) {{dtype="float32"}} : f32[2]  loc "{outer}"\n'
        f'  %3 = add(%1, %2) : f32[3,2]  loc "{outer}"\n'
        f'  %4 = linear(%prompt, %inner.gate.weight) : f32[3,2]  loc "{inner}"\n'
        f'  %5 = tanh(%4) : f32[3,2]  loc "{inner}"\n'
        f'  %6 = add(%3, %5) : f32[3,2]  loc "{outer}"\n'
        '  return "velocity" %6\n'
        "}\n"
    )


def test_parameters_take_no_memory() -> None:
    class Huge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(1 << 22, 1 << 22))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.weight)

        def example_inputs(self) -> dict[str, Tensor]:
            return {"x": torch.zeros(1, 1 << 22)}

    assert trace("huge", Huge, {}, "y").params[0].value.type.nbytes == 1 << 46


def test_modules_are_traced_in_evaluation_mode() -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.dropout(x) * 2.0

        def example_inputs(self) -> dict[str, Tensor]:
            return {"x": torch.zeros(3)}

    assert opcodes(trace("p", Dropping, {}, "y")) == ["mul_scalar"]


def test_what_needs_nothing_but_the_trace_is_computed() -> None:
    def function(x: Tensor) -> Tensor:
        steps = torch.arange(4, dtype=torch.float32)
        table = torch.cat([torch.cos(steps * 0.5), torch.sin(steps)]).reshape(2, 4)
        return x * table[1]

    program = check(function, X)
    assert opcodes(program) == ["mul"]
    (param,) = program.params
    assert isinstance(param.recipe, Constant)
    np.testing.assert_array_equal(param.recipe.array, torch.sin(torch.arange(4.0)).numpy())


def test_a_constant_is_one_parameter_however_often_it_is_read() -> None:
    def function(x: Tensor) -> Tensor:
        ones = torch.full((4,), 3.0)
        return x * ones + ones

    assert len(check(function, X).params) == 1


def test_constants_of_every_dtype() -> None:
    def function(x: Tensor) -> Tensor:
        ids = torch.arange(4) % 2
        table = torch.eye(2, dtype=torch.bfloat16) * 1.005859375  # a tie, which rounds to even
        rows = nn.functional.embedding(ids, table).float()
        kept = torch.where(torch.arange(4) > 0, x.reshape(4), 0.0)
        return kept + rows.sum(-1) + torch.full((4,), 255, dtype=torch.uint8).float()

    check(function, X)


def test_pieces_of_constants() -> None:
    def function(x: Tensor) -> Tensor:
        low, high = torch.arange(8.0).chunk(2)
        return x * low + high

    check(function, X)


def test_literal_tensors() -> None:
    check(lambda x: x * torch.tensor([1.0, 0.0, -1.0, 2.0]) + torch.tensor(0.5), X)


def test_a_constant_may_be_all_there_is() -> None:
    program = traced(lambda x: torch.arange(3, dtype=torch.int32) * 2, X)
    assert not program.ops
    assert interpret(program, X).tolist() == [0, 2, 4]


def test_an_input_may_be_the_output() -> None:
    program = traced(lambda x, y: y, X, X)
    assert not program.ops
    np.testing.assert_array_equal(interpret(program, X * 0, X), X.numpy())


def test_an_unused_input_stays_in_the_interface() -> None:
    program = traced(lambda x, y: x + 1, X, X)
    assert [item.value.name for item in program.inputs] == ["x0", "x1"]


def test_an_op_without_a_handler_is_named_with_its_place() -> None:
    with pytest.raises(IRError, match=r"^aten.erf.default at trace/traced.py:\d+: there is no handler for it; add one"):
        traced(torch.erf, X)


def test_random_constants_are_refused() -> None:
    with pytest.raises(IRError, match=r"aten.rand.default at trace/traced.py:\d+: a random constant would differ"):
        traced(lambda x: x + torch.rand(4), X)


def test_a_buffer_has_no_data_when_tracing() -> None:
    class Buffered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table: Tensor
            self.register_buffer("table", torch.arange(4.0))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.table

        def example_inputs(self) -> dict[str, Tensor]:
            return {"x": torch.zeros(4)}

    with pytest.raises(IRError, match="constant table has no data under fake tensors; compute it in the forward"):
        trace("p", Buffered, {}, "y")


def test_an_input_of_a_dtype_that_programs_have_not() -> None:
    with pytest.raises(IRError, match=r"programs have no torch.float16, only float32, bfloat16, int32, bool, uint8"):
        trace("p", lambda: FunctionModule(torch.exp, (X.half(),)), {}, "y")


def test_weights_come_from_the_checkpoint() -> None:
    program = trace("step", Model, {}, "velocity")
    recipes = {param.value.name: param.recipe for param in program.params}
    assert recipes == {name: Checkpoint(name) for name in ("inner.gate.weight", "shift", "idle")}
    torch.manual_seed(0)
    model = Model().eval()
    x, prompt = torch.randn(3, 4), torch.randn(3, 4)
    arrays = {name: parameter.detach().float().numpy() for name, parameter in model.named_parameters()}
    actual = run(program, {"latents": x.numpy(), "prompt": prompt.numpy()}, arrays)["velocity"]
    np.testing.assert_allclose(actual, model(x, prompt).detach().numpy(), rtol=0, atol=1e-6)
