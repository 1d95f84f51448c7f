"""read_tables: golden texts, and that reading a row equals being given it."""

from pathlib import Path

import numpy as np

from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.passes.tables import INDEX, read_tables
from tests.compiler.golden import Golden, cases
from tests.compiler.numbers import assert_same, inputs, parameter

FOLDER = Path(__file__).parent / "golden" / "tables"


@cases(FOLDER)
def test_golden(golden: Golden) -> None:
    rate, size = golden.options["rate"], int(golden.options["size"])
    verify(golden.source)
    after = read_tables(golden.source, rate, size)
    verify(after)
    golden.check({"tables": after})
    arrays = inputs(after)
    rates = {item.value.name: item.rate for item in golden.source.inputs}
    for step in range(size):
        row = {n: arrays[n][step] if rate == rates[n] else arrays[n] for n in rates}
        given = arrays | ({INDEX: np.array([step], np.int32)} if INDEX in arrays else {})
        assert_same(run(after, given, parameter), run(golden.source, row, parameter), tolerance=0)
