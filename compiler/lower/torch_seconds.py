"""How long the torch target's programs take: nominal, since one host plays all devices of the mesh.

Only the order of the plans matters, so that a bundle that is checked on a host is cut as one that is to be fast on
devices would be. All constants of the target are here.
"""

from mochi_aot.compiler.partition.cost import Cost

FLOPS_PER_SECOND = 74e12  # bfloat16 on a device such as a Wormhole chip, as its data sheet states it
LINK_BYTES_PER_SECOND = 4 * 12.5e9  # four 100 Gb/s Ethernet links to each neighbour
SECONDS_PER_COLLECTIVE = 20e-6


def seconds(cost: Cost) -> float:
    """Return the modelled seconds of one run: nothing overlaps."""
    compute = cost.flops / FLOPS_PER_SECOND
    sending = cost.collective_bytes / LINK_BYTES_PER_SECOND
    return compute + sending + SECONDS_PER_COLLECTIVE * sum(cost.collectives.values())
