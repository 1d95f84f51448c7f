"""How long the torch target's programs take: on GPUs with NVLink, a process each.

A host that simulates the mesh is to check what they would run, and has the same plans.

Only the order of the plans matters. Of the full model's at 480x848x163 it is the same on 1x2, 1x4, 1x8 and 2x4 by the
figures of cards on PCIe (NVIDIA's product brief of the H100 PCIe: 756 TFLOPS; 64 GB/s each way over 16 lanes of PCIe
5.0): guidance on two halves first, then the sequence. All constants of the target are here.
"""

from mochi_aot.compiler.partition.cost import Cost

# H100 SXM5: NVIDIA, H100 Tensor Core GPU architecture, table of peak rates: dense bfloat16. Products and attention of
# these sizes reach about half of it.
FLOPS_PER_SECOND = 0.5 * 989.4e12
FLOAT8_FLOPS_PER_SECOND = 2 * FLOPS_PER_SECOND  # the same table
# The same: 18 links of fourth-generation NVLink, 25 GB/s each way; NCCL's rings reach about four fifths of that.
LINK_BYTES_PER_SECOND = 0.8 * 18 * 25e9
SECONDS_PER_COLLECTIVE = 20e-6  # to start one and to meet: NCCL's latency within a host


def seconds(cost: Cost) -> float:
    """Return the modelled seconds of one run: nothing overlaps."""
    compute = (cost.flops - cost.float8_flops) / FLOPS_PER_SECOND + cost.float8_flops / FLOAT8_FLOPS_PER_SECOND
    sending = cost.collective_bytes / LINK_BYTES_PER_SECOND
    return compute + sending + SECONDS_PER_COLLECTIVE * sum(cost.collectives.values())
