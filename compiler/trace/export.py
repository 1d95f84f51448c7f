"""Runs torch.export without weights in memory and turns the graph into a program."""

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec

from mochi_aot.artifacts.roles import LATENT
from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.program import Checkpoint, Program
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.trace.aten import ATEN
from mochi_aot.compiler.trace.composite import COMPOSITE
from mochi_aot.compiler.trace.graph import Graph, Handler, dtype_name, source_location

HANDLERS: dict[str, Handler] = ATEN | COMPOSITE
IGNORED = frozenset(("aten._assert_tensor_metadata.default",))

ProgramInputs = list[tuple[str, TensorType, str]]  # name, type, rate


class Traceable(Protocol):
    """A module that says what it is called with."""

    def eval(self) -> torch.nn.Module:
        """Return the module itself, ready for inference."""

    def example_inputs(self) -> dict[str, torch.Tensor]:
        """Return the inputs by argument name, in order, of the shapes and dtypes that the program will take."""


def trace(name: str, build: Callable[[], Traceable], rates: Mapping[str, str], *outputs: str) -> Program:
    """Return the program of the module that `build` makes; `outputs` are the names of what it returns.

    `build` runs under FakeTensorMode, so its parameters take no memory; each becomes a parameter named by its key in
    the module's state dict. Inputs are named and typed as the module's `example_inputs`; one that `rates` does not
    name changes with the latent. Raise IRError, saying where in the reference, for what programs cannot express.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        module = build()
        example = module.example_inputs()
        exported = torch.export.export(module.eval(), tuple(example.values()), strict=False)
    inputs = [
        (key, TensorType(tuple(tensor.shape), dtype_name(tensor.dtype)), rates.get(key, LATENT))
        for key, tensor in example.items()
    ]
    return _Translator(name, exported, inputs, list(outputs)).run()


class _Translator:
    """Walks the exported graph once. What needs nothing but the trace is computed; for the rest there are handlers."""

    def __init__(self, name: str, exported: ExportedProgram, inputs: ProgramInputs, outputs: list[str]) -> None:
        self.graph = Graph(name)
        self.exported, self.inputs, self.output_names = exported, inputs, outputs

    def run(self) -> Program:
        specs = {spec.arg.name: spec for spec in self.exported.graph_signature.input_specs}
        inputs = iter(self.inputs)
        for node in self.exported.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, specs[node.name], inputs)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                for name, result in zip(self.output_names, node.args[0], strict=True):
                    self.graph.builder.output(name, self.graph.value(result))
        return self.graph.builder.program

    def _placeholder(self, node: torch.fx.Node, spec: InputSpec, inputs: Iterator[tuple[str, TensorType, str]]) -> None:
        builder = self.graph.builder
        if spec.kind is InputKind.USER_INPUT:
            self.graph.values[node] = [builder.input(*next(inputs))]
        elif spec.kind is InputKind.PARAMETER:
            fake, key = node.meta["val"], str(spec.target)
            type = TensorType(tuple(fake.shape), dtype_name(fake.dtype))
            self.graph.values[node] = [builder.param(key, type, Checkpoint(key))]
        else:
            self.graph.constants[node] = self._real_constant(str(spec.target))

    def _real_constant(self, target: str) -> torch.Tensor:
        tensor = self.exported.constants.get(target)
        real = getattr(tensor, "constant", tensor)
        if real is None or type(real) is not torch.Tensor:
            raise IRError(f"constant {target} has no data under fake tensors; compute it in the forward instead")
        return real

    def _call(self, node: torch.fx.Node) -> None:
        graph = self.graph
        graph.loc = source_location(node)
        if str(node.target) in IGNORED:
            return
        if self._is_constant([*node.args, *node.kwargs.values()]):
            graph.constants[node] = self._evaluate(node)
        elif node.target is operator.getitem:
            source, index = node.args
            graph.values[node] = [graph.values[source][index]]  # type: ignore[index]
        else:
            try:
                result = self._handler(node)(graph, node)
            except IRError as error:
                raise IRError(f"{node.target} at {graph.loc or 'an unknown place'}: {error}") from error
            graph.values[node] = result if isinstance(result, list) else [result]

    def _is_constant(self, argument: Any) -> bool:
        """Return whether an argument needs nothing but the trace: a literal, or a node computed from literals."""
        if isinstance(argument, list | tuple):
            return all(map(self._is_constant, argument))
        return not isinstance(argument, torch.fx.Node) or argument in self.graph.constants

    def _evaluate(self, node: torch.fx.Node) -> Any:
        target: Any = node.target
        if torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()):
            raise IRError(f"{target} at {self.graph.loc}: a random constant would differ at every compile")
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda n: self.graph.constants[n])
        return target(*args, **kwargs)

    def _handler(self, node: torch.fx.Node) -> Handler:
        if str(node.target) not in HANDLERS:
            raise IRError("there is no handler for it; add one to compiler/trace/aten.py")
        return HANDLERS[str(node.target)]
