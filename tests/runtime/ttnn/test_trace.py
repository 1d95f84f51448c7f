"""What is asked of ttnn to record and repeat a program; a mock mesh has no trace, so this part of ttnn is replaced."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import ttnn

from mochi_aot.artifacts.schema import Program
from mochi_aot.runtime.ttnn import backend as backend_module
from mochi_aot.runtime.ttnn.trace import TracedExecutable, can_trace, feeds_itself
from tests.runtime.ttnn.on_mesh import backend, instruction, program, spec, used

X = spec([32, 64])
STEP = program(
    {"table": X, "latents": X},
    ["w"],
    {"latents": (4, X)},
    [instruction("multiply", [0, 1], [3], []), instruction("add", [3, 2], [4], [3])],
)
ONCE = program({"x": X}, [], {"y": (1, X)}, [instruction("silu", [0], [1], [])])


def constant_table(sample: Program) -> Program:
    """The program with an input `table` that stays the same from step to step."""
    return replace(sample, inputs=[replace(sample.inputs[0], rate="prompt"), *sample.inputs[1:]])


class Recorder:
    """Stands in for ttnn's trace functions; recording runs the ops, so that they are validated and counted."""

    def __init__(self, refuse: bool = False) -> None:
        self.events: list[str] = []
        self.refuse = refuse

    def begin(self, mesh: Any) -> str:
        self.events.append("begin")
        return "trace"

    def end(self, mesh: Any, trace: str) -> None:
        self.events.append("end")
        if self.refuse:
            raise RuntimeError("TT_FATAL @ /trace.cpp:1: size <= region\ninfo:\nThe trace is too large\nbacktrace:\n")

    def execute(self, mesh: Any, trace: str, blocking: bool) -> None:
        assert trace == "trace" and blocking
        self.events.append("execute")

    def release(self, mesh: Any, trace: str) -> None:
        self.events.append("release")


@contextmanager
def recorded(refuse: bool = False) -> Iterator[Recorder]:
    recorder = Recorder(refuse)
    with (
        patch.object(ttnn, "begin_trace_capture", recorder.begin),
        patch.object(ttnn, "end_trace_capture", recorder.end),
        patch.object(ttnn, "execute_trace", recorder.execute),
        patch.object(ttnn, "release_trace", recorder.release),
        patch.object(backend_module, "can_trace", lambda: True),
    ):
        yield recorder


def loaded(sample: Program) -> tuple[Any, Any, dict[str, Any]]:
    """A backend with the program, its weight on the mesh, and inputs."""
    mesh = backend()
    mesh._weights["w"] = upload(mesh)
    return mesh, mesh.load_program(sample), {source.name: upload(mesh) for source in sample.inputs}


def upload(mesh: Any) -> Any:
    return mesh.upload(np.ones((32, 64), np.float32), X)


@pytest.mark.mesh
def test_only_what_feeds_itself_is_traced_and_only_on_chips() -> None:
    assert (feeds_itself(STEP), feeds_itself(ONCE)) == (True, False)
    assert not can_trace()
    with recorded():
        assert isinstance(loaded(STEP)[1], TracedExecutable)
        assert not isinstance(loaded(ONCE)[1], TracedExecutable)
    assert not isinstance(loaded(STEP)[1], TracedExecutable)


@pytest.mark.mesh
def test_the_second_step_is_recorded_and_then_repeated() -> None:
    before = used()
    with recorded() as recorder:
        mesh, executable, inputs = loaded(constant_table(STEP))
        seen = []
        for _ in range(4):
            outputs = executable.run(inputs)
            seen.append(list(recorder.events))
            recorder.events.clear()
            assert list(outputs["latents"].shape) == [32, 64]
            inputs = {**inputs, **outputs}
        assert seen == [[], ["begin", "end", "execute"], ["execute"], ["execute"]]
        mesh.free_weights(["w"])
        assert recorder.events == ["release"]
        del executable, inputs, outputs
    assert used() == before


@pytest.mark.mesh
def test_nothing_is_recorded_where_someone_watches() -> None:
    """A trace has no results between its first instruction and its last."""
    with recorded() as recorder:
        _, executable, inputs = loaded(constant_table(STEP))
        seen: list[int] = []
        for _ in range(3):
            executable.run(inputs, lambda index, results: seen.append(index))
        assert recorder.events == [] and seen == 3 * list(range(len(STEP.instructions)))


@pytest.mark.mesh
def test_each_output_is_a_tensor_of_its_own() -> None:
    with recorded():
        _, executable, inputs = loaded(constant_table(STEP))
        executable.run(inputs)
        first, second = (executable.run(inputs)["latents"] for _ in range(2))
        assert first.buffer_address() != second.buffer_address()


@pytest.mark.mesh
def test_other_constant_inputs_end_a_trace() -> None:
    with recorded() as recorder:
        mesh, executable, inputs = loaded(constant_table(STEP))
        executable.run(inputs)
        executable.run(inputs)
        recorder.events.clear()
        others = {**inputs, "table": upload(mesh)}
        for _ in range(2):
            executable.run(others)
        assert recorder.events == ["release", "begin", "end", "execute"]


@pytest.mark.mesh
def test_a_trace_that_ttnn_refuses() -> None:
    """The program goes on as an ordinary one."""
    with recorded(refuse=True) as recorder:
        _, executable, inputs = loaded(constant_table(STEP))
        executable.run(inputs)
        with pytest.warns(UserWarning, match=r"program 'sample' runs untraced: The trace is too large \(size <= regi"):
            executable.run(inputs)
        executable.run(inputs)
        assert recorder.events == ["begin", "end", "release"]
