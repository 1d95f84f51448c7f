"""Video sizes and what they become."""

import pytest

from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.geometry import Geometry, GeometryError


def test_the_published_size():
    assert Geometry(480, 848, 163).latent_size(MochiConfig()) == (28, 60, 106)


def test_one_frame():
    assert Geometry(16, 16, 1).latent_size(MochiConfig()) == (1, 2, 2)


@pytest.mark.parametrize(
    "geometry, problem",
    [
        (Geometry(40, 64, 7), r"40x64x7: height 40 is not a positive multiple of 16"),
        (Geometry(32, 0, 7), r"width 0 is not a positive multiple of 16"),
        (Geometry(32, 64, 8), r"32x64x8: 8 frames is not 6k\+1$"),
        (Geometry(32, 64, 0), r"0 frames is not 6k\+1$"),
        (Geometry(32, 64, -3), r"-3 frames is not 6k\+1"),
    ],
)
def test_refuses_what_does_not_divide(geometry, problem):
    with pytest.raises(GeometryError, match=problem):
        geometry.latent_size(MochiConfig())
