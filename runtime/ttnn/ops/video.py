"""Convolution over frames, and the exchange of borders it needs."""

import math

import ttnn

from mochi_aot.runtime.executor import Call
from mochi_aot.runtime.ttnn.context import Context
from mochi_aot.runtime.ttnn.ops.call import Attrs, Builder


def _conv3d(attrs: Attrs, context: Context) -> Call:
    """Build a call with operands x [1, T, H, W, C] row by row, the prepared weight, and a bias by keyword.

    attrs: `output_channels`, `kernel_size`, `stride`, `padding` and `padding_mode`, as ttnn takes them; `c_in_block`,
    the input channels of a block; `program_config` [output channels, frames, rows, columns] of a block; `compute`.
    """
    outputs, frames, height, width = attrs["program_config"]
    passed = {
        "device": context.mesh,
        "config": ttnn.Conv3dConfig(
            C_in_block=attrs["c_in_block"],
            C_out_block=outputs,
            T_out_block=frames,
            H_out_block=height,
            W_out_block=width,
            compute_with_storage_grid_size=ttnn.CoreCoord(*context.grid),
        ),
        "dtype": ttnn.bfloat16,
        "compute_kernel_config": context.compute(attrs["compute"]),
        **{name: attrs[name] for name in ("output_channels", "kernel_size", "stride", "padding", "padding_mode")},
    }
    names = ["input_tensor", "weight_tensor", *attrs["kw"]]
    return lambda *tensors: ttnn.experimental.conv3d(**dict(zip(names, tensors, strict=True)), **passed)


def _neighbor_pad(attrs: Attrs, context: Context) -> Call:
    """Build a call with operand x row by row.

    attrs are lists with an item for each dimension: `dim`, `padding_left`, `padding_right`, and the mesh `axis` along
    which the dimension is cut; and `padding_mode`, what chips at the edge of the mesh put there.
    """
    dims, axes = attrs["dim"], attrs["axis"]
    use = ("neighbor_pad", tuple(axes))
    turn = context.turn(use)
    links = [ttnn.get_num_links(context.mesh, axis) for axis in axes]
    passed = {
        "neighbor_semaphore": context.semaphores((*use, turn), len(dims)),
        "barrier_semaphore": context.semaphores((*use, turn, "barrier"), 1),
        "cluster_axis": axes,
        "topology": ttnn.Topology.Linear,
        **{name: attrs[name] for name in ("dim", "padding_left", "padding_right", "padding_mode")},
    }

    def call(x: ttnn.Tensor) -> ttnn.Tensor:
        # What lies in front of the dimension is shared out over the links, a piece each at least.
        used = [min(most, math.prod(tuple(x.shape)[:dim])) for most, dim in zip(links, dims, strict=True)]
        return ttnn.experimental.neighbor_pad_async(x, num_links=used, **passed)

    return call


VIDEO: dict[str, Builder] = {
    "experimental.conv3d": _conv3d,
    "experimental.neighbor_pad_async": _neighbor_pad,
}
