"""What plans are considered for: tests/tools/commands/test_explain.py has the plans themselves."""

from types import SimpleNamespace
from typing import Any

import pytest

from mochi_aot.artifacts.layout import ARCHITECTURES
from mochi_aot.compiler import explain as explaining
from mochi_aot.compiler.job import Job
from mochi_aot.compiler.partition.choose import Choice
from mochi_aot.compiler.reference.geometry import Geometry

# What ttnn tells of a mocked chip's DRAM, bytes. Plans leave 3 % free.
DRAM = dict(zip(ARCHITECTURES, (12_872_318_208, 34_217_131_008), strict=True))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_chips_are_those_of_the_job(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target that prices plans, and how much memory they may use."""
    targets: list[Any] = []

    def chosen(programs: object, mesh: object, names: object, target: Any) -> Choice:
        targets.append(target)
        return Choice({}, [])

    for name, stand_in in {"check_geometries": None, "build_programs": None, "chosen_plans": chosen}.items():
        monkeypatch.setattr(explaining, name, stand_in or (lambda *_, **__: {}))
    job = Job((1, 2), (Geometry(64, 64, 7),), target="ttnn", arch=arch)
    explanation = explaining.explain(SimpleNamespace(config=None), job)  # type: ignore[arg-type]
    assert explanation.memory_bytes == pytest.approx(0.97 * DRAM[arch])
    assert [target._arch for target in targets] == [arch]
