"""Dead code elimination."""

from pathlib import Path

from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.passes.dce import eliminate_dead_code
from tests.compiler.golden import Golden, cases
from tests.compiler.numbers import assert_same, inputs, parameter

FOLDER = Path(__file__).parent / "golden" / "dce"


@cases(FOLDER)
def test_golden(golden: Golden) -> None:
    verify(golden.source)
    after = eliminate_dead_code(golden.source)
    verify(after)
    golden.check({"dce": after})
    arrays = inputs(golden.source)
    assert_same(run(after, arrays, parameter), run(golden.source, arrays, parameter), tolerance=0)
