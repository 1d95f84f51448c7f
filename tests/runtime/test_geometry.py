"""Which geometry a name, or the shape of an array, means."""

from pathlib import Path

import pytest

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.errors import OptionError
from mochi_aot.runtime.geometry import find_geometry, fitting_geometries, geometry_name, require_fitting, with_sizes
from tests.runtime import toy_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Of 16x32x13 and 16x16x7."""
    toy_bundle.write_bundle(tmp_path / "b")
    return Bundle.open(tmp_path / "b")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (None, "16x32x13"),
        ("16x16x7", "16x16x7"),
        ("*x*x*", "16x32x13"),
        ("16x*x*", "16x32x13"),
        ("*x16x*", "16x16x7"),
        ("*x*x7", "16x16x7"),
    ],
)
def test_the_first_one_that_fits(bundle: Bundle, name: str | None, found: str) -> None:
    assert geometry_name(find_geometry(bundle, name)) == found


@pytest.mark.parametrize("name", ["16x32x7", "*x*x9", "16x32", "16x32x13x1", "", "x", "016x32x13", "*"])
def test_none_fits(bundle: Bundle, name: str) -> None:
    with pytest.raises(OptionError, match=r"in the bundle; it has 16x32x13, 16x16x7 .height x width x frames.$"):
        find_geometry(bundle, name)


def test_sizes() -> None:
    assert with_sizes(None, None, None, None) is None
    assert with_sizes(None, 16, None, 7) == "16x*x7"
    assert with_sizes("16x32x13", None, 16, None) == "16x16x13"


def test_shapes(bundle: Bundle) -> None:
    first, second = bundle.manifest.geometries
    assert fitting_geometries(bundle, "decode", "latents", [1, 12, 3, 2, 4]) == [first]
    assert require_fitting(bundle, "encode", "frames", [7, 16, 16, 3]) == second
    with pytest.raises(OptionError) as caught:
        require_fitting(bundle, "decode", "latents", [1, 12])
    wanted = "[1, 12, 3, 2, 4] or [1, 12, 2, 2, 2]"
    assert str(caught.value) == f"latents has shape [1, 12], decode of this bundle wants {wanted}"
