"""Recording a program and repeating it. A CUDA graph is replaced by what has its two properties: it runs on the memory
that it was recorded with, and it does what Python decided while it was recorded."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch

from mochi_aot.artifacts.schema import Program, TensorSpec
from mochi_aot.runtime.backend import Watch
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.torch.executor import TorchExecutable
from mochi_aot.runtime.torch.gpu.graph import RecordedExecutable, Values, feeds_itself
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.types import Value
from tests.runtime.torch.attention_by_rows import joint_attention, mask_of, operands
from tests.runtime.torch.programs import instruction, program, spec

VISUAL, TEXT = 7, 5
NAMES = ("latents", "k", "v", "q_text", "k_text", "v_text", "mask")


def attending() -> Program:
    """latents <- attention of the latents to all; the rest is of a slower rate."""
    visual, text = spec([2, VISUAL, 2, 8]), spec([2, TEXT, 2, 8])
    specs: list[TensorSpec] = [visual, visual, visual, text, text, text, spec([2, TEXT], "bool")]
    attend = replace(instruction("joint_attention", list(range(7)), [7, 8], [8], scale=0.4))
    made = program(dict(zip(NAMES, specs, strict=True)), [], {"latents": (7, visual)}, [attend])
    rates = ["latent", *["prompt"] * 6]
    return replace(made, inputs=[replace(i, rate=r) for i, r in zip(made.inputs, rates, strict=True)])


class FakeGraph:
    """Records by running; repeats by running again on the recorded inputs, into the recorded outputs."""

    def __init__(self, refuse: str | None = None) -> None:
        self.recorded = self.replayed = 0
        self.refuse = refuse

    def record(self, run: Callable[[], Values]) -> tuple[Values, Callable[[], object]]:
        self.recorded += 1
        outputs = run()
        if self.refuse:
            raise RuntimeError(self.refuse)
        for (tensor,) in outputs.values():
            tensor.fill_(float("nan"))  # recording computes nothing

        def replay() -> None:
            self.replayed += 1
            for name, (tensor,) in run().items():
                outputs[name][0].copy_(tensor)

        return outputs, replay


class Counted:
    """An executable that counts its runs."""

    def __init__(self, executable: TorchExecutable) -> None:
        self.executable, self.runs = executable, 0

    def run(self, inputs: Mapping[str, Value], watch: Watch | None = None) -> Values:
        self.runs += 1
        return self.executable.run(inputs, watch)


def recorded(graph: FakeGraph, sample: Program | None = None) -> tuple[RecordedExecutable, Counted]:
    sample = sample or attending()
    counted = Counted(TorchExecutable(sample, Mesh(1, 1), {}))
    return RecordedExecutable(counted, sample, graph), counted


def inputs_of(mask: torch.Tensor, seed: int = 0) -> tuple[dict[str, Value], list[torch.Tensor]]:
    tensors = [x + seed for x in operands(VISUAL, TEXT)]
    return {name: [x] for name, x in zip(NAMES, [*tensors, mask], strict=True)}, tensors


def check(executable: RecordedExecutable, inputs: dict[str, Value]) -> torch.Tensor:
    """Run, and compare with the definition in float64; float32 is off by a few 2^-24 of numbers of order 1."""
    (made,) = executable.run(inputs)["latents"]
    tensors = [inputs[name][0] for name in NAMES[:-1]]
    expected, _ = joint_attention(tensors, inputs["mask"][0], 0.4)
    torch.testing.assert_close(made.double(), expected, rtol=0, atol=1e-5)
    return made


def test_the_second_step_is_recorded_and_all_later_ones_repeat_it() -> None:
    graph = FakeGraph()
    executable, counted = recorded(graph)
    inputs, _ = inputs_of(mask_of(TEXT, [0, 1, 2], [0]))
    for step in range(5):
        made = check(executable, inputs)
        inputs = {**inputs, "latents": [made]}  # as the sampler does
        assert (graph.recorded, graph.replayed) == (int(step > 0), step)
    assert counted.runs - graph.replayed == 2  # the first, and the recording


def test_outputs_stay_what_they_are() -> None:
    graph = FakeGraph()
    executable, _ = recorded(graph)
    inputs, _ = inputs_of(mask_of(TEXT, [0, 1], [0]))
    check(executable, inputs)
    second = check(executable, inputs)
    kept = second.clone()
    check(executable, {**inputs, "latents": [inputs["latents"][0] * 2]})
    assert torch.equal(second, kept)


def test_inputs_stay_what_they_are() -> None:
    executable, _ = recorded(FakeGraph())
    inputs, _ = inputs_of(mask_of(TEXT, [0, 1], [0]))
    kept = {name: value[0].clone() for name, value in inputs.items()}
    others, _ = inputs_of(mask_of(TEXT, [3, 4], [2]), seed=1)
    for given in (inputs, inputs, others, inputs):
        check(executable, given)
    assert all(torch.equal(inputs[name][0], tensor) for name, tensor in kept.items())


def test_another_prompt_as_long_repeats_the_recording() -> None:
    """Its tokens may be at other places: the recording reads these too."""
    graph = FakeGraph()
    executable, _ = recorded(graph)
    first, _ = inputs_of(mask_of(TEXT, [0, 1], [0]))
    other, _ = inputs_of(mask_of(TEXT, [2, 4], [3]), seed=1)
    for given in (first, first, other, first, other):
        check(executable, given)
    assert (graph.recorded, graph.replayed) == (1, 4)


def test_a_text_of_another_length_has_a_recording_of_its_own() -> None:
    graph = FakeGraph()
    executable, _ = recorded(graph)
    short, _ = inputs_of(mask_of(TEXT, [0], [0]))
    long, _ = inputs_of(mask_of(TEXT, [0, 1, 2, 3, 4], []))
    for given in (short, long, short, long, short, long):
        check(executable, given)
    assert (graph.recorded, graph.replayed) == (2, 4)


def test_after_release_it_begins_anew() -> None:
    graph = FakeGraph()
    executable, _ = recorded(graph)
    inputs, _ = inputs_of(mask_of(TEXT, [0, 1], [0]))
    for _ in range(2):
        check(executable, inputs)
        check(executable, inputs)
        executable.release()
    assert (graph.recorded, graph.replayed) == (2, 2)


def test_who_watches_sees_every_instruction() -> None:
    graph = FakeGraph()
    executable, _ = recorded(graph)
    inputs, _ = inputs_of(mask_of(TEXT, [0, 1], [0]))
    seen: list[int] = []
    for _ in range(3):
        executable.run(inputs, lambda index, results: seen.append(index))
    assert seen == [0, 0, 0] and graph.recorded == 0


@pytest.mark.filterwarnings("error")
def test_what_cannot_be_recorded_runs_on_with_one_warning() -> None:
    graph = FakeGraph(refuse="operation not permitted when stream is capturing\nmore of it")
    executable, _ = recorded(graph)
    inputs, _ = inputs_of(mask_of(TEXT, [0, 1], [0]))
    check(executable, inputs)
    message = "^program 'sample' runs without a CUDA graph: operation not permitted when stream is capturing$"
    with pytest.warns(UserWarning, match=message):
        check(executable, inputs)
    check(executable, inputs)
    assert graph.recorded == 1


def test_a_missing_input_is_the_executables_error() -> None:
    executable, _ = recorded(FakeGraph())
    inputs, _ = inputs_of(mask_of(TEXT, [0], [0]))
    del inputs["mask"]
    with pytest.raises(BackendError, match="expected an input 'mask', seen latents, k"):
        executable.run(inputs)


def test_a_mask_that_the_program_computes_is_not_recorded() -> None:
    """How many tokens count would not be known before it runs."""
    plain = attending()
    cast = instruction("cast", [6], [9], [], dtype="bool")
    attend = replace(plain.instructions[0], operands=[0, 1, 2, 3, 4, 5, 9])
    graph = FakeGraph()
    executable, _ = recorded(graph, replace(plain, instructions=[cast, attend]))
    inputs, _ = inputs_of(mask_of(TEXT, [0, 1], [0]))
    for _ in range(3):
        check(executable, inputs)
    assert graph.recorded == 0


def test_which_programs_feed_themselves() -> None:
    assert feeds_itself(attending())
    once = program({"x": spec([2])}, [], {"y": (1, spec([2]))}, [instruction("silu", [0], [1], [])])
    assert not feeds_itself(once)
