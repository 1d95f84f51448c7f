"""Works through a video in strips of frames, all ops on one strip before the next, so that only a strip is in memory.

What a convolution sees of earlier frames, the last few of the strip before, is kept; nothing looks at later ones.
"""

import math
from collections.abc import Callable

from mochi_aot.compiler.ir.builder import Builder, copy_signature
from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.ops import ELEMENTWISE, integer, ints
from mochi_aot.compiler.ir.program import Attrs, Op, Program, Value

TIME = 1  # of the video [B, T, H, W, C] that the reference annotates
FRAME_BY_FRAME = ELEMENTWISE | {"linear", "group_norm"}  # and leave the dimensions in their places

Rule = Callable[[Op, list[Value]], Value | None]


def in_strips(program: Program, name: str, frames: int, until: str | None = None) -> Program:
    """Return `program`, which has no mesh yet, with all that depends on the annotated value `name` done in strips; or
    what comes before the annotated value `until` alone.

    Each strip has `frames` of that value's frames, the last one what is left. Results are the same. Raises IRError for
    an op that does not keep time apart, or if nothing has that name.
    """
    return _Strips(program, name, frames, until).run()


class _Strips:
    def __init__(self, program: Program, name: str, frames: int, until: str | None) -> None:
        self.source, self.frames = program, frames
        self.builder = Builder(program.name)
        self.values = copy_signature(program, self.builder)  # what does not depend on the video, made once
        self.video = annotated(program, name).result
        self.end = None if until is None else annotated(program, until)
        self.time = {self.video: TIME}  # which dimension of a value is time; only values that depend on the video
        self.strip: dict[Value, Value | None] = {}  # such values' current strips; None where a slice left nothing
        self.made: dict[Value, list[Value]] = {self.video: []}  # all their strips so far
        self.tails: dict[Op, Value] = {}  # the last frames that a convolution has seen
        self.rules: dict[str, Rule] = {
            "causal_conv3d": self._causal_conv3d,
            "reshape": self._reshape,
            "permute": self._permute,
            "slice": self._slice,
            "concat": self._concat,
            "count_nonfinite": self._count,
        }

    def run(self) -> Program:
        dependent, rest = self._cut_at_the_end(self._copy_independent())
        length = self.video.type.shape[TIME]
        for start in range(0, length, self.frames):
            stop = min(start + self.frames, length)
            self._record(self.video, self._sliced(self.values[self.video], TIME, start, stop, "strips"))
            for op in dependent:
                self._place(op)
        for op in rest:
            self.values.update((v, self._joined(v)) for v in op.operands if v in self.made and v not in self.values)
            self.builder.copy_op(op, self.values)
        for output in self.source.outputs:
            self.builder.output(output.name, self._joined(output.value))
        return self.builder.program

    def _copy_independent(self) -> list[Op]:
        """Copy what the video is made from and what has nothing to do with it; return the other ops."""
        dependent = []
        for op in self.source.ops:
            if any(operand in self.made for operand in op.operands):
                dependent.append(op)
                self.made.update((result, []) for result in op.results)
            else:
                self.builder.copy_op(op, self.values)
        return dependent

    def _cut_at_the_end(self, dependent: list[Op]) -> tuple[list[Op], list[Op]]:
        """Return the ops that are done in strips, and the others, which begin with the end and what depends on it."""
        late: set[Value] = set()
        strips, rest = [], []
        for op in dependent:
            if op is self.end or not late.isdisjoint(op.operands):
                late.update(op.results)
                rest.append(op)
            else:
                strips.append(op)
        for value in late:
            del self.made[value]
        return strips, rest

    def _place(self, op: Op) -> None:
        """Place one op of the current strip."""
        operands = [self.strip[v] if v in self.made else self.values[v] for v in op.operands]
        present = [v for v in operands if v is not None]
        times = {self.time[v] for v in op.operands if v in self.time}
        if op.opcode not in self.rules and (op.opcode not in FRAME_BY_FRAME or len(times) != 1):
            raise IRError(f"@{self.source.name}: {op.opcode} at {op.loc} has no rule for strips of time")
        self.time[op.result] = min(times)
        rule = self.rules.get(op.opcode, self._same)
        self._record(op.result, rule(op, present) if len(present) == len(operands) else None)

    def _record(self, value: Value, strip: Value | None) -> None:
        self.strip[value] = strip
        if strip is not None:
            self.made[value].append(strip)

    def _same(self, op: Op, operands: list[Value]) -> Value:
        return self._emit(op, operands, op.attrs)

    def _emit(self, op: Op, operands: list[Value], attrs: Attrs) -> Value:
        return self.builder.emit(op.opcode, operands, dict(attrs), op.loc)

    def _causal_conv3d(self, op: Op, operands: list[Value]) -> Value:
        """Put the frames in front that come from the strip before; in front of the first they repeat its first
        frame."""
        x, *parameters = operands
        front, *space = ints(op.attrs["padding"])
        if ints(op.attrs["stride"])[0] != 1:
            raise IRError(f"@{self.source.name}: {op.opcode} at {op.loc} has a stride in time")
        if front:
            before = [self.tails[op]] if op in self.tails else [self._sliced(x, TIME, 0, 1, op.loc)] * front
            x = self.builder.emit("concat", [*before, x], {"dim": TIME}, op.loc)
            length = x.type.shape[TIME]
            self.tails[op] = self._sliced(x, TIME, length - front, length, op.loc)
        return self._emit(op, [x, *parameters], {**op.attrs, "padding": [0, *space]})

    def _reshape(self, op: Op, operands: list[Value]) -> Value:
        """Reshape a strip: time stays where it was counted from the front, alone or as the major part of a
        dimension."""
        (x,) = operands
        time, shape = self.time[op.operands[0]], list(op.result.type.shape)
        before = math.prod(x.type.shape[:time])
        place = max((d for d in range(len(shape)) if math.prod(shape[:d]) == before), default=0)
        shape[place], rest = divmod(math.prod(x.type.shape), before * math.prod(shape[place + 1 :]))
        if math.prod(shape[:place]) != before or rest:
            raise IRError(f"@{self.source.name}: reshape at {op.loc} mixes time with what precedes it")
        self.time[op.result] = place
        return self._emit(op, [x], {"shape": shape})

    def _permute(self, op: Op, operands: list[Value]) -> Value:
        self.time[op.result] = ints(op.attrs["dims"]).index(self.time[op.operands[0]])
        return self._same(op, operands)

    def _slice(self, op: Op, operands: list[Value]) -> Value | None:
        """Take what lies within a slice in time from each strip."""
        (x,) = operands
        time = self.time[op.operands[0]]
        if op.attrs["dim"] != time:
            return self._same(op, operands)
        first = sum(strip.type.shape[time] for strip in self.made[op.operands[0]][:-1])
        start = max(integer(op.attrs["start"]) - first, 0)
        stop = min(integer(op.attrs["stop"]) - first, x.type.shape[time])
        return self._sliced(x, time, start, stop, op.loc) if start < stop else None

    def _concat(self, op: Op, operands: list[Value]) -> Value:
        """Put channels beside channels."""
        if op.attrs["dim"] == self.time[op.operands[0]] or len({self.time.get(v) for v in op.operands}) != 1:
            raise IRError(f"@{self.source.name}: {op.opcode} at {op.loc} joins frames")
        return self._same(op, operands)

    def _count(self, op: Op, operands: list[Value]) -> Value:
        """Count on from the strip before, so that the last count is that of the whole."""
        counted, self.made[op.result] = self.made[op.result], []
        return self._emit(op, [*operands, *counted], op.attrs)

    def _sliced(self, x: Value, dim: int, start: int, stop: int, loc: str) -> Value:
        if (start, stop) == (0, x.type.shape[dim]):
            return x
        return self.builder.emit("slice", [x], {"dim": dim, "start": start, "stop": stop}, loc)

    def _joined(self, value: Value) -> Value:
        if value in self.values:
            return self.values[value]
        strips = self.made[value]
        if len(strips) == 1:
            return strips[0]
        return self.builder.emit("concat", strips, {"dim": self.time[value]}, "strips")


def annotated(program: Program, name: str) -> Op:
    """Return the op that gives a value its name. Raise IRError if nothing has it."""
    for op in program.ops:
        if op.opcode == "annotate" and op.attrs["name"] == name:
            return op
    raise IRError(f"@{program.name}: no value is annotated as {name!r}")
