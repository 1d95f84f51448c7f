"""Dead code elimination."""

from pathlib import Path

from mochi_aot.compiler.passes.dce import eliminate_dead_code
from tests.compiler.golden import Golden, cases, check_pass

FOLDER = Path(__file__).parent / "golden" / "dce"


@cases(FOLDER)
def test_golden(golden: Golden) -> None:
    check_pass(golden, "dce", eliminate_dead_code)
