"""Plans of another scheme, for comparison: what TT-DiT does with Mochi on Wormhole meshes. No bundle follows them.

Each weight of the blocks is cut by the tensor axis as here and by the sequence axis too, along its other dimension, and
is gathered over the latter at each use. The VAE's group norms gather whole activations. All else is as in this
compiler's plans: Megatron's pairs of products, ring attention, halos.
"""

from dataclasses import replace

from mochi_aot.compiler.partition.plan import Cut, Plan
from mochi_aot.compiler.partition.plans import (
    DECODER_PLANS,
    MODULATIONS,
    TRANSFORMER_INPUTS,
    TRANSFORMER_OUTPUTS,
    transformer_plan,
)

# Which mesh axis cuts the sequence on the meshes that TT-DiT publishes: sp 2, tp 4 and sp 8, tp 4.
SEQUENCE_AXES = {(2, 4): 0, (4, 8): 1}

# The decoder's mesh and cuts. Eight chips stand in a row and cut time alone; of 32, TT-DiT cuts time in eight and the
# picture in 2 x 2 along the other axis, taken here as four cuts of the height: its gathers are the same.
DECODERS = {(2, 4): ((1, 8), "h0t1"), (4, 8): ((4, 8), "h0t1")}


def gathering_transformer_plan(sequence_axis: int, multiple: int = 1) -> Plan:
    """As `transformer_plan`, with the blocks' weights and modulations gathered along the sequence axis at each use."""
    plan = transformer_plan(sequence_axis, multiple)
    by_outputs = [(pattern, Cut(sequence_axis, 1)) for pattern in TRANSFORMER_OUTPUTS + MODULATIONS]
    by_inputs = [(pattern, Cut(sequence_axis, 0)) for pattern in TRANSFORMER_INPUTS]
    params = (*plan.params, *by_outputs, *by_inputs)
    return replace(plan, name=f"{plan.name}-gathered", params=params, gathered_axis=sequence_axis)


def gathering_decoder_plan(name: str) -> Plan:
    """The decoder's plan of this name, with whole activations gathered for each norm."""
    return replace(DECODER_PLANS[name], name=f"{name}-gathered", whole_norms=True)
