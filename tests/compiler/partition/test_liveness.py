"""Peak memory by hand."""

from mochi_aot.compiler.ir.parser import parse
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.partition.liveness import peak_bytes


def program(body: str, mesh: str = "") -> Program:
    made = parse(f"program @p {mesh}{{\n{body}\n}}\n")
    verify(made)
    return made


def test_operands_and_result_are_alive_together_and_then_die() -> None:
    """x is 24 bytes; %0 and %1 as much; %2 is alone with x and %1."""
    made = program("""\
  input %x : f32[6] rate=latent
  %0 = exp(%x) : f32[6]
  %1 = exp(%0) : f32[6]
  %2 = add(%1, %1) : f32[6]
  return "y" %2
""")
    assert peak_bytes(made) == 3 * 24


def test_parameters_and_outputs_stay() -> None:
    made = program("""\
  input %x : f32[6] rate=latent
  param %w : f32[4,6] = checkpoint("w")
  %0 = exp(%x) : f32[6]
  %1 = linear(%0, %w) : f32[4]
  %2 = exp(%1) : f32[4]
  return "first" %0
  return "y" %2
""")
    assert peak_bytes(made) == 24 + 96 + 24 + 16 + 16


def test_a_reshape_takes_nothing_and_keeps_its_operand_alive() -> None:
    made = program("""\
  input %x : f32[6] rate=latent
  %0 = exp(%x) : f32[6]
  %1 = reshape(%0) {shape=[2, 3]} : f32[2,3]
  %2 = exp(%x) : f32[6]
  %3 = exp(%1) : f32[2,3]
  return "a" %2
  return "b" %3
""")
    assert peak_bytes(made) == 4 * 24


def test_a_device_holds_its_part() -> None:
    made = program(
        "  input %x : f32[8]{R,S(0:2)} rate=latent\n"
        '  %0 = all_gather(%x) {axis=1, dim=0, size=8} : f32[8]{R,R}\n  return "y" %0\n',
        "mesh=1x4 ",
    )
    assert peak_bytes(made) == 8 + 32
