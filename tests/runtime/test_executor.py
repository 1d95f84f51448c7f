"""The executor of instruction lists, with a backend of plain Python objects: order, lifetimes and errors."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from mochi_aot.artifacts.schema import Instruction, Program, TensorSpec
from mochi_aot.runtime.backend import Value
from mochi_aot.runtime.errors import BackendError, NumbersError
from mochi_aot.runtime.executor import Build, InstructionExecutor
from tests.runtime.torch.programs import instruction, program, spec

SHAPE = spec([1])
Table = dict[str, Callable[..., Any]]


class Thing:
    """A value whose end can be seen."""

    def __init__(self, name: str) -> None:
        self.name = name


class Executor(InstructionExecutor):
    """`table` has the function of each op; `resolved` the ops that were looked up, in order."""

    backend = "plain"

    def __init__(self, program: Program, table: Table, weights: dict[str, Value] | None = None) -> None:
        self.table, self.resolved = table, list[str]()
        super().__init__(program, {} if weights is None else weights)

    def _builder(self) -> Build:
        def build(op: Instruction) -> Callable[..., Any] | None:
            self.resolved.append(op.op)
            if "bad" in op.attrs:
                raise ValueError("bad")
            return self.table.get(op.op)

        return build

    def _mismatch(self, value: Value, spec: TensorSpec) -> str | None:
        return None if isinstance(value, Thing) else f"expected a thing, seen {value}"

    def _describe(self, slot: Thing) -> str:
        return slot.name

    def _reason(self, error: Exception) -> str:
        return f"<{error}>"


def chain(*instructions: Instruction, last: int = 0, weights: list[str] | None = None) -> Program:
    return program({"x": SHAPE}, weights or [], {"y": (last, SHAPE)}, list(instructions))


def test_instructions_are_resolved_once_and_run_in_order() -> None:
    seen: list[tuple[str, ...]] = []

    def note(*things: Thing) -> Thing:
        seen.append(tuple(thing.name for thing in things))
        return Thing(f"{len(seen)}")

    two = [instruction("note", [0, 1], [2], []), instruction("note", [2, 0], [3], [2])]
    executor = Executor(chain(*two, last=3, weights=["w"]), {"note": note}, {"w": Thing("w")})
    for _ in range(2):
        assert executor.run({"x": Thing("x"), "unused": Thing("u")})["y"].name == str(len(seen))
    assert seen == [("x", "w"), ("1", "x"), ("x", "w"), ("3", "x")]
    assert executor.resolved == ["note", "note"]


def test_what_was_released_is_resolved_again() -> None:
    executor = Executor(chain(instruction("copy", [0], [1], []), last=1), {"copy": lambda x: x})
    executor.release()
    x = Thing("x")
    assert executor.run({"x": x})["y"] is x
    assert executor.resolved == ["copy", "copy"]


@pytest.mark.parametrize("watched", [False, True])
def test_values_are_freed_after_their_last_use(watched: bool) -> None:
    """Each instruction finds alive what the list has not freed, and nothing else: also not what nobody ever reads."""
    made: list[weakref.ref[Thing]] = []
    alive: list[list[int]] = []

    def look() -> None:
        gc.collect()
        alive.append([index for index, thing in enumerate(made) if thing() is not None])

    def make(count: int) -> Any:
        def call(*operands: Thing) -> Any:
            look()
            del operands
            things = [Thing("t") for _ in range(count)]
            made.extend(map(weakref.ref, things))
            return things[0] if count == 1 else things

        return call

    sample = chain(
        instruction("one", [0], [1], []),
        instruction("two", [0], [2, 3], [3]),  # thing 2 is never read
        instruction("one", [1], [4], [1]),
        instruction("one", [4], [5], [4, 2]),
        instruction("one", [5], [6], []),
        last=6,
    )
    shown: list[int] = []
    watch = (lambda index, results: shown.append(len(results))) if watched else None
    outputs = Executor(sample, {"one": make(1), "two": make(2)}).run({"x": Thing("x")}, watch)
    look()
    assert alive == [[], [0], [0, 1], [1, 3], [4], [5]]
    assert outputs["y"] is made[5]()
    assert shown == ([1, 2, 1, 1, 1] if watched else [])


def test_who_watches_sees_what_is_freed_next() -> None:
    sample = chain(instruction("copy", [0], [1], [0, 1]), last=0)
    seen: list[tuple[int, list[Any]]] = []
    x = Thing("x")
    Executor(sample, {"copy": lambda thing: thing}).run({"x": x}, lambda index, made: seen.append((index, made)))
    assert seen == [(0, [x])]


@pytest.mark.parametrize("error", [NumbersError("seen"), KeyError("of the watcher")])
def test_what_a_watcher_raises_ends_the_run_as_it_is(error: Exception) -> None:
    def watch(index: int, results: list[Value]) -> None:
        if index == 1:
            raise error

    two = [instruction("copy", [0], [1], []), instruction("copy", [1], [2], [1])]
    with pytest.raises(type(error)) as caught:
        Executor(chain(*two, last=2), {"copy": lambda x: x}).run({"x": Thing("x")}, watch)
    assert caught.value is error


@pytest.mark.parametrize("watch", [None, lambda index, results: None])
def test_an_op_that_fails_names_itself_and_its_operands(watch: Any) -> None:
    def fail(*things: Thing) -> Thing:
        raise RuntimeError("no")

    two = [instruction("copy", [0], [2], []), instruction("fail", [2, 1, 3], [4], [], color=3)]
    executor = Executor(
        chain(*two, last=4, weights=["w"]), {"copy": lambda x: x, "fail": fail}, {"w": Thing("float32[2]")}
    )
    message = (
        r"^program 'sample': instruction 1 \(fail.py:1\): fail\(int8\[3\], float32\[2\], nothing\) {'color': 3} "
        r"failed: <no>$"
    )
    with pytest.raises(BackendError, match=message):
        executor.run({"x": Thing("int8[3]")}, watch)


def test_an_error_keeps_no_value_alive() -> None:
    def fail(thing: Thing) -> Thing:
        raise RuntimeError("no")

    x = Thing("x")
    gone = weakref.ref(x)
    executor = Executor(chain(instruction("fail", [0], [1], []), last=1), {"fail": fail})
    inputs = {"x": x}
    del x
    try:
        executor.run(inputs)
    except BackendError as caught:
        inputs.clear()
        assert isinstance(caught.__cause__, RuntimeError)
        assert gone() is None
    else:
        pytest.fail("it did not fail")


def test_a_result_too_few() -> None:
    executor = Executor(chain(instruction("pair", [0], [1, 2], []), last=1), {"pair": lambda x: [x]})
    with pytest.raises(BackendError, match=r"instruction 0 \(pair.py:1\): pair\(x\) {} failed: <zip"):
        executor.run({"x": Thing("x")})


def test_ops_and_attributes_that_the_backend_does_not_have() -> None:
    where = r"^program 'sample': instruction 1 \((fft|copy).py:1\): "
    copy, table = instruction("copy", [0], [1], []), {"copy": lambda x: x}
    with pytest.raises(BackendError, match=where + "the plain backend has no op 'fft'; compile the bundle with this"):
        Executor(chain(copy, instruction("fft", [0], [2], [])), table)
    with pytest.raises(BackendError, match=where + r"attributes {'bad': 1} are not those of copy: ValueError\('bad'\)"):
        Executor(chain(copy, instruction("copy", [0], [2], [], bad=1)), table)


def test_inputs_and_weights_that_are_not_there() -> None:
    weights: dict[str, Value] = {}
    executor = Executor(chain(weights=["w"]), {}, weights)
    with pytest.raises(BackendError, match=r"^program 'sample': expected an input 'x', seen z$"):
        executor.run({"z": Thing("z")})
    with pytest.raises(BackendError, match=r"^program 'sample': expected an input 'x', seen none$"):
        executor.run({})
    with pytest.raises(BackendError, match=r"^program 'sample': input 'x': expected a thing, seen 3$"):
        executor.run({"x": 3})
    x = Thing("x")
    with pytest.raises(BackendError, match=r"^program 'sample': weight 'w' is not loaded; load the program's weights"):
        executor.run({"x": x})
    weights["w"] = Thing("w")
    assert executor.run({"x": x})["y"] is x  # an input may be an output


def test_stopping_by_hand_is_not_an_error_of_the_program() -> None:
    def interrupt(thing: Thing) -> Thing:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Executor(chain(instruction("stop", [0], [1], []), last=1), {"stop": interrupt}).run({"x": Thing("x")})
