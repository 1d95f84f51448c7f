"""Run as a module in a process of its own: what ttnn says of ring attention's chunks on a mocked mesh.

`python -m tests.compiler.lower.ttnn.ring_on_mock ROWS COLUMNS ARCH FOLDER`, the cases as JSON on stdin, each [heads,
tokens, text, width, dtype, queries, keys, axis]. Prints a line `answers: [...]`: for each case null if the op was
accepted, or else the bytes of a core's memory that it would have taken, or else the error.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from mochi_aot.compiler.lower.ttnn.mesh import mesh_settings
from mochi_aot.runtime.ttnn.mock import enter_mock, prepare_mock

RING = "transformer.ring_joint_scaled_dot_product_attention"
Case = tuple[int, int, int, int, str, int, int, int]


def main(rows: int, columns: int, arch: str, folder: Path) -> None:
    enter_mock(prepare_mock((rows, columns), folder, arch=arch))
    from mochi_aot.runtime.ttnn.mesh import close_mesh, open_mesh

    mesh = open_mesh(rows, columns, mesh_settings((rows, columns), arch=arch))
    answers = [answer(mesh, (rows, columns), case) for case in json.load(sys.stdin)]
    print("answers:", json.dumps(answers))
    close_mesh(mesh)


def answer(mesh: Any, shape: tuple[int, int], case: Case) -> int | str | None:
    """The op is built and called as the runtime does it."""
    import ttnn

    from mochi_aot.runtime.ttnn.context import DTYPES, Context
    from mochi_aot.runtime.ttnn.ops import OPS

    heads, tokens, text, width, dtype, queries, keys, axis = case
    chips = shape[axis]

    def tensor(dims: list[int], dtype: str, layout: Any = ttnn.TILE_LAYOUT) -> Any:
        spec = ttnn.TensorSpec(dims, DTYPES[dtype], layout, buffer_type=ttnn.BufferType.DRAM)
        return ttnn.allocate_tensor_on_device(spec, mesh)

    attrs = {
        "kw": ["logical_l"],
        "size": tokens * chips - 24,
        "text_size": text,
        "scale": width**-0.5,
        "axis": axis,
        "buffer": [1, heads, tokens * chips, width],
        "text_buffer": [1, heads, text * chips, width],
        "dtype": dtype,
        "program_config": [queries, keys],
        "compute": "hifi2_bf16acc",
    }
    operands = [tensor([1, heads, n, width], dtype) for n in (tokens, tokens, tokens, text, text, text)]
    length = tensor([1], "uint32", ttnn.ROW_MAJOR_LAYOUT)
    try:
        OPS[RING](attrs, Context(mesh))(*operands, length)
    except RuntimeError as error:
        found = re.search(r"grow to (\d+) B|static circular buffer region ends at (\d+)", str(error))
        return int(found[1] or found[2]) if found else str(error)[:300]
    return None


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
