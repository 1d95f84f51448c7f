"""The text form of meshes."""

import pytest

from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.compiler.partition.mesh import MAX_DEVICES, parse_mesh


@pytest.mark.parametrize(
    ("text", "mesh"), [("1x1", (1, 1)), ("2x4", (2, 4)), ("32x32", (32, 32)), ("1024x1", (1024, 1))]
)
def test_rows_and_columns(text: str, mesh: tuple[int, int]) -> None:
    assert parse_mesh(text) == mesh


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "4",
        "2x",
        "x4",
        "0x4",
        "2x0",
        "-1x4",
        "2X4",
        "2 x 4",
        "2x4x1",
        "2x4\n",
        "1.0x2",
        "02x4",
        "٢x4",
        "12345x1",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match=r"is not RxC with two positive numbers; write for example 2x4") as error:
        parse_mesh(text)
    assert repr(text) in str(error.value)


def test_more_devices_than_are_supported() -> None:
    assert MAX_DEVICES == 1024
    with pytest.raises(PlanError, match="mesh 1024x2 has 2048 devices; at most 1024 are supported"):
        parse_mesh("1024x2")
