"""Whether all weights of a video fit, on sizes that can be added up by hand."""

from types import SimpleNamespace
from typing import Any

import pytest

from mochi_aot.artifacts.schema import Geometry, Weight
from mochi_aot.runtime.residency import all_weights_fit

MATRIX = Weight("matrix", "bfloat16", [64, 64], [])  # 8192 bytes
ROW = Weight("row", "float32", [3], [])  # one tile, 4096 bytes
BLOCKS = Weight("blocks", "bfloat8_b", [1, 32, 64], [])  # two tiles of 1088 bytes
PROGRAMS = {"encode_text": [MATRIX, ROW], "denoise": [BLOCKS, ROW]}
# What the programs need besides: 1000 and 5000 bytes.
PEAKS = {"encode_text": 8192 + 4096 + 1000, "denoise": 2176 + 4096 + 5000}
NEEDED = 8192 + 4096 + 2176 + 5000


def bundle() -> Any:
    weights = {weight.name: weight for weight in (MATRIX, ROW, BLOCKS)}
    programs = {role: SimpleNamespace(weights=found) for role, found in PROGRAMS.items()}
    return SimpleNamespace(weights=weights, program=lambda role, geometry: programs[role])


@pytest.mark.parametrize(("device_bytes", "fits"), [(NEEDED / 0.96, True), (NEEDED / 0.98, False)])
def test_shared_weights_count_once_and_the_largest_rest(device_bytes: float, fits: bool) -> None:
    geometry = Geometry(16, 16, 7, {"encode_text": 0, "denoise": 1}, PEAKS)
    assert all_weights_fit(bundle(), geometry, int(device_bytes)) is fits


def test_what_nobody_measured_does_not_fit() -> None:
    roles = {"encode_text": 0, "denoise": 1}
    assert not all_weights_fit(bundle(), Geometry(16, 16, 7, roles, PEAKS), None)
    assert not all_weights_fit(bundle(), Geometry(16, 16, 7, roles, {"denoise": 1}), 1 << 40)
    assert not all_weights_fit(bundle(), Geometry(16, 16, 7, roles, {}), 1 << 40)
