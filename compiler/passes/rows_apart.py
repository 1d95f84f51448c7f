"""Works on the rows of a batch one by one, where a batch is no use: a row's scale is then a norm's weight, and ops that
take one row at a time, such as ring attention, need no slices before them and no concat after them.
"""

from mochi_aot.compiler.ir.builder import Builder, copy_signature
from mochi_aot.compiler.ir.ops import ELEMENTWISE, integer, ints
from mochi_aot.compiler.ir.program import Op, Program, Value

LOC = "rows_apart"
ROW_BY_ROW = ELEMENTWISE | {"linear", "rms_norm", "rope", "joint_attention"}


def rows_apart(program: Program) -> Program:
    """Return `program`, which has no mesh yet, with all that comes after its `expand` to a batch done row by row.

    Results are the same. Ops that mix rows get them joined.
    """
    return _Rows(program).run()


class _Rows:
    def __init__(self, program: Program) -> None:
        self.source = program
        self.builder = Builder(program.name)
        self.values = copy_signature(program, self.builder)  # whole ones
        self.rows: dict[Value, list[Value]] = {}

    def run(self) -> Program:
        for op in self.source.ops:
            if not (self._begins(op) or self._goes_on(op) or self._takes_a_row(op)):
                self._whole_operands(op)
                self.builder.copy_op(op, self.values)
        for output in self.source.outputs:
            self.builder.output(output.name, self._whole(output.value))
        return self.builder.program

    def _begins(self, op: Op) -> bool:
        """Make one row for each of a batch, where rows begin with this op; return whether they do."""
        if op.opcode != "expand":
            return False
        (x,), (count, *shape) = op.operands, op.result.type.shape
        if count == 1 or x.type.shape != (1, *shape):
            return False
        self.rows[op.result] = [self._whole(x)] * count
        return True

    def _goes_on(self, op: Op) -> bool:
        counts = {len(self.rows[v]) for v in op.operands if v in self.rows}
        if len(counts) != 1 or not self._keeps_rows(op):
            return False
        (count,) = counts
        made = [self._row(op, row, count) for row in range(count)]
        self.rows.update(zip(op.results, map(list, zip(*made, strict=True)), strict=True))
        return True

    def _keeps_rows(self, op: Op) -> bool:
        """Return whether each row of the results is made of the same row of the operands that are in rows."""
        if op.opcode == "reshape":
            return op.operands[0].type.shape[0] == op.result.type.shape[0]
        if op.opcode == "permute":
            return ints(op.attrs["dims"])[0] == 0
        if op.opcode in ("sum", "mean"):
            return 0 not in ints(op.attrs["dims"])
        return op.opcode in ROW_BY_ROW

    def _row(self, op: Op, row: int, count: int) -> list[Value]:
        operands = [self._piece(v, row, count, len(op.operands[0].type.shape)) for v in op.operands]
        attrs = dict(op.attrs)
        if op.opcode == "reshape":
            attrs["shape"] = [1, *op.result.type.shape[1:]]
        return self.builder.emit_many(op.opcode, operands, attrs, op.loc)

    def _piece(self, value: Value, row: int, count: int, rank: int) -> Value:
        """Return a row of a batch; what is no batch, such as a weight, as it is."""
        shape = value.type.shape
        if value in self.rows:
            return self.rows[value][row]
        parameter = any(value is param.value for param in self.source.params)
        if parameter or shape[:1] != (count,) or len(shape) < min(rank, 2):
            return self.values[value]
        self.rows[value] = [
            self.builder.emit("slice", [self.values[value]], {"dim": 0, "start": n, "stop": n + 1}, LOC)
            for n in range(count)
        ]
        return self.rows[value][row]

    def _takes_a_row(self, op: Op) -> bool:
        """Take the row itself for a slice of one row; return whether the op is one."""
        if op.opcode != "slice" or op.attrs["dim"] != 0 or op.operands[0] not in self.rows:
            return False
        start, stop = integer(op.attrs["start"]), integer(op.attrs["stop"])
        if stop - start != 1:
            return False
        self.values[op.result] = self.rows[op.operands[0]][start]
        return True

    def _whole_operands(self, op: Op) -> None:
        for value in op.operands:
            self._whole(value)

    def _whole(self, value: Value) -> Value:
        if value not in self.values:
            self.values[value] = self.builder.emit("concat", self.rows[value], {"dim": 0}, LOC)
        return self.values[value]
