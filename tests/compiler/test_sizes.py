"""What is refused before tracing is what partitioning would refuse, and what an error suggests can be cut."""

import re

import pytest

from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.partition.choose import Estimate, Estimator, choose_plans
from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.plans import FAMILIES, TTNN_FAMILIES
from mochi_aot.compiler.partition.spmd import partition
from mochi_aot.compiler.reference.geometry import Geometry, GeometryError, parse_geometry
from mochi_aot.compiler.sizes import check_geometries
from tests.compiler.tiny import CONFIG, programs

SIZES = [Geometry(32, 48, 1), Geometry(32, 48, 13), Geometry(32, 48, 25), Geometry(64, 64, 7), Geometry(48, 80, 19)]
NAMES = [(), ("h0w1",), ("h0t1",), ("t0w1",)]


def partitions(mesh: tuple[int, int]) -> Estimator:
    """Of every program that can be partitioned, the same."""

    def estimate(program: Program, plan: Plan) -> Estimate:
        partition(program, mesh, plan)
        return Estimate(1.0, 0, 0, 0)

    return estimate


@pytest.mark.parametrize("mesh", [(1, 2), (2, 2), (4, 2)], ids=str)
@pytest.mark.parametrize("families", [FAMILIES, TTNN_FAMILIES], ids=["torch", "ttnn"])
def test_it_agrees_with_partitioning(mesh: tuple[int, int], families) -> None:
    video = {roles: plans for roles, plans in families.items() if "decode" in roles}
    for geometry in SIZES:
        for names in NAMES:
            if any(name not in plans for name in names for plans in video.values()):
                continue
            try:
                check_geometries([geometry], mesh, names, video, CONFIG)
                early = None
            except GeometryError as error:
                early = str(error)
            try:
                choose_plans([programs(geometry)], mesh, names, video, partitions(mesh))
                late = None
            except PlanError as error:
                late = str(error)
            assert (early is None) == (late is None), (geometry, names, early, late)
            for near in re.findall(r"\d+x\d+x\d+", early.partition("the nearest")[2]) if early else ():
                check_geometries([parse_geometry(near)], mesh, names, video, CONFIG)
                choose_plans([programs(parse_geometry(near))], mesh, names, video, partitions(mesh))
