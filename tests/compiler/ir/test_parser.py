"""The parser's errors: the line's number, what was expected, and the line."""

import pytest

from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.parser import parse

GOOD = """\
program @p {
  input %x : f32[2] rate=latent
  %0 = exp(%x) : f32[2]
  return "y" %0
}
"""


def test_blank_lines_and_spaces_do_not_matter() -> None:
    program = parse("\n" + GOOD.replace("\n", "\n\n").replace("(", " ( ").replace(":", "  :"))
    assert [op.opcode for op in program.ops] == ["exp"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%1 = exp(%y) : f32[2]", "line 3: expected a value defined above, found %y"),
        ("%1 = exp(%1) : f32[2]", "line 3: expected a value defined above, found %1"),
        ("%x = exp(%x) : f32[2]", "line 3: expected a new name, found %x, which is defined above"),
        ("%1 = exp(%x : f32[2]", r"line 3: expected ',' or '\)', found ': f32\[2\]'"),
        ("%1 = exp(%x) f32[2]", r"line 3: expected ':', found 'f32\[2\]'"),
        ("%1 = (%x) : f32[2]", r"line 3: expected an opcode, found '\(%x\) : f32\[2\]'"),
        ("%1 = exp(%x) : f64[2]", "line 3: expected one of the dtypes f32, bf16, i32, bool, u8, f8, found 'f64'"),
        ("%1 = exp(%x) : f32[a]", r"line 3: expected a size, found 'a\]'"),
        ("%1 = exp(%x) : f32[2]{Q}", "line 3: expected a placement: R, P or S"),
        ("%1 = exp(%x) : f32[2]{S(0)}", r"line 3: expected ':', found '\)\}'"),
        ("%1, %2 = exp(%x) : f32[2]", "line 3: expected 2 types, one per result, found 1"),
        ("%1 = exp(%x) {a=} : f32[2]", "line 3: expected a JSON value, found '}"),
        ("%1 = exp(%x) {a=1, a=2} : f32[2]", "line 3: expected one value for attribute 'a', found a second"),
        ("%1 = exp(%x) : f32[2] loc dit.py", "line 3: expected a location in quotes, found 'dit.py'"),
        ("%1 = exp(%x) : f32[2] more", "line 3: expected the end of the line, found 'more'"),
        ("exp(%x)", r"line 3: expected '%', found 'exp\(%x\)'"),
        ("input %1 : f32[2]", "line 3: expected 'rate=', found the end of the line"),
        (
            'param %1 : f32[2] = file("a")',
            "expected checkpoint, constant, computed, quantised or concat, found 'file'",
        ),
        ("param %1 : f32[2] = checkpoint(7)", "line 3: expected a checkpoint's name in quotes, found '7"),
        ('param %1 : f32[2] = constant("ab")', "line 3: expected data for constant 'ab' beside the text, found none"),
        ('param %1 : f32[2] = concat(0, [checkpoint("a")])', r"line 3: expected ':', found '\]\)'"),
        ("return y %x", "line 3: expected the output's name in quotes, found 'y %x'"),
    ],
)
def test_errors_say_where_and_what(line: str, expected: str) -> None:
    text = GOOD.replace("  %0 = exp(%x) : f32[2]", f"  {line}")
    with pytest.raises(IRError, match=expected) as raised:
        parse(text)
    assert str(raised.value).endswith(f"\n  {line}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: expected 'program', found the end of the text"),
        ("program p {", "line 1: expected '@', found 'p {'"),
        ("program @p mesh=2 {", "line 1: expected 'x', found '{'"),
        ("program @p {\n", "line 2: expected '}', found the end of the text"),
        (GOOD + "more", "line 6: expected the end of the text, found 'more'"),
    ],
)
def test_errors_around_the_program(text: str, expected: str) -> None:
    with pytest.raises(IRError, match=expected):
        parse(text)
