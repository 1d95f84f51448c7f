"""Collectives along one mesh axis: `axis` 0 runs over the rows, 1 over the columns."""

import ttnn

from mochi_aot.runtime.ttnn.ops.call import calls
from mochi_aot.runtime.ttnn.ops.types import Builder

COLLECTIVES: dict[str, Builder] = {
    "all_gather": calls(ttnn.all_gather, "dim axis"),
    "all_reduce": calls(ttnn.all_reduce, "axis"),
    "reduce_scatter": calls(ttnn.reduce_scatter, "dim axis"),
    "mesh_partition": calls(ttnn.mesh_partition, "dim axis"),
}
