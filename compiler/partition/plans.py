"""The plans for Mochi's programs: which mesh axis cuts what.

`sp1tp0` puts the sequence on axis 1 and tensor parallelism on axis 0 of the transformer's programs, `gp0sp1` the rows
of guidance on axis 0 and the sequence on axis 1, and `gp0sp1fs0` cuts large weights along axis 0 too while they are not
used (fully sharded). `sp01` puts the sequence on both axes. The VAE's plans name what each axis cuts: `h0w1` height on
axis 0 and width on axis 1. The text encoder's name the axes of its tensor parallelism.
"""

from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Cut, Plan

# Megatron's split: the first product of a pair by its outputs, the second by its inputs, one sum after the pair.
TRANSFORMER_OUTPUTS = (
    "dit.blocks.*.attn.[qkv]_[xy].weight",
    "dit.blocks.*.mlp_[xy].gate.weight",
    "dit.blocks.*.mlp_[xy].up.weight",
)
TRANSFORMER_INPUTS = ("dit.blocks.*.attn.proj_[xy].weight", "dit.blocks.*.mlp_[xy].down.weight")
# Most of a block's weights. All of the full model's in bfloat16 are more than a Wormhole chip has room for; with these
# in halves there is enough, and the more is gathered, the more a step sends.
GATHERED = ("dit.blocks.*.mlp_[xy].*.weight",)
MODULATIONS = ("dit.blocks.*.mod_[xy].*.weight",)
TEXT_OUTPUTS = (
    "text.encoder.block.*.SelfAttention.[qkv].weight",
    "text.encoder.block.*.DenseReluDense.wi_[01].weight",
)
TEXT_INPUTS = ("text.encoder.block.*.SelfAttention.o.weight", "text.encoder.block.*.DenseReluDense.wo.weight")
CAPTIONED, ROWS = "captioned_tokens", 0  # [B, N, D]: the same tokens for each of B captions
VIDEO_DIMS = {"t": 1, "h": 2, "w": 3}  # of [B, T, H, W, C]
DECODER_DIMS = ("hw", "wh", "th", "tw", "ht", "wt")
CUT_VIDEO = frozenset(("frames", "nonfinite"))  # the decoder's outputs, which stay where they are made

Seeds = tuple[tuple[str, Cut], ...]


def _seeds(patterns: tuple[str, ...], axis: int, dim: int) -> Seeds:
    return tuple((pattern, Cut(axis, dim)) for pattern in patterns)


def transformer_plan(sequence_axis: int, multiple: int = 1) -> Plan:
    """Return the plan of sequence parallelism along one axis, in pieces of a multiple of `multiple` tokens, and of
    tensor parallelism along the other.

    The modulations are cut along the tensor axis too: their program runs once a video and gathers its results.
    """
    tensor_axis = 1 - sequence_axis
    params = (
        _seeds(TRANSFORMER_OUTPUTS, tensor_axis, 0)
        + _seeds(TRANSFORMER_INPUTS, tensor_axis, 1)
        + _seeds(MODULATIONS, tensor_axis, 0)
    )
    values = {"tokens": (Cut(sequence_axis, 1, multiple),), "velocity_tokens": ()}
    return Plan(f"sp{sequence_axis}tp{tensor_axis}", params, values)


def guidance_plan(guidance_axis: int, multiple: int = 1, gathered: bool = False) -> Plan:
    """Return the plan of the two rows of guidance on the two halves of one axis, sequence parallelism along the other.

    Each half has the blocks' weights whole, so that no product leaves partial sums. The axis has two devices, or the
    plan does not work. `gathered`: of the largest weights each half keeps a half, and gathers the other at use.
    """
    sequence_axis = 1 - guidance_axis
    tokens = Cut(sequence_axis, 1, multiple)
    values = {
        "tokens": (tokens,),
        CAPTIONED: (tokens, Cut(guidance_axis, ROWS, even=True)),
        "velocity_tokens": (),
    }
    at_rest = tuple((pattern, Cut(guidance_axis, 1, multiple)) for pattern in GATHERED) if gathered else ()
    name = f"gp{guidance_axis}sp{sequence_axis}" + (f"fs{guidance_axis}" if gathered else "")
    return Plan(name, _seeds(MODULATIONS, guidance_axis, 0), values, gathered=at_rest)


def both_axes_plan(multiple: int = 1) -> Plan:
    """Return the plan of sequence parallelism along both axes, and of tensor parallelism of the text along axis 1.

    Attention works on heads along axis 1 and in a ring along axis 0: see the rule of joint_attention.
    """
    params = (
        _seeds(_of_text(TRANSFORMER_OUTPUTS), 1, 0)
        + _seeds(_of_text(TRANSFORMER_INPUTS), 1, 1)
        + _seeds(MODULATIONS, 1, 0)
    )
    tokens = (Cut(0, 1, multiple), Cut(1, 1, multiple))
    return Plan("sp01", params, {"tokens": tokens, "velocity_tokens": ()})


def _of_text(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the patterns of both streams for the text's alone."""
    return tuple(pattern.replace("_[xy]", "_y") for pattern in patterns)


def sequence_plan(axis: int, multiple: int = 1) -> Plan:
    """Sequence parallelism along one axis and nothing along the other, for heads or widths that do not divide."""
    return Plan(f"sp{axis}", values={"tokens": (Cut(axis, 1, multiple),), "velocity_tokens": ()}, last_resort=True)


def guidance_cut(plan: Plan, mesh: Mesh) -> bool:
    """Return whether the plan puts the rows of guidance on different devices of the mesh."""
    return any(cut.dim == ROWS and mesh[cut.axis] > 1 for cut in plan.values.get(CAPTIONED, ()))


def text_plan(axes: tuple[int, ...]) -> Plan:
    """Return the plan of tensor parallelism along `axes`; along none, each device encodes by itself."""
    params: Seeds = ()
    for axis in axes:
        params += _seeds(TEXT_OUTPUTS, axis, 0) + _seeds(TEXT_INPUTS, axis, 1)
    return Plan("tp" + ("".join(map(str, axes)) or "none"), params, last_resort=not axes)


def decoder_plan(dims: str, even: bool = False) -> Plan:
    """Return the plan in which mesh axis `a` cuts `dims[a]`, of t, h, w, of the video; frames, and the count of what is
    not finite in them, leave the program cut.

    `even`: pieces of a frame have no padding. In time padding is at the end, where a causal decoder does not look.
    """
    cuts = tuple(Cut(axis, VIDEO_DIMS[dim], even=even and dim != "t") for axis, dim in enumerate(dims))
    return Plan(_video_name(dims), values={"latent_video": cuts}, cut_outputs=CUT_VIDEO)


def decoder_on_one_axis(dim: str, axis: int, even: bool = False) -> Plan:
    """As `decoder_plan`, with `dim` cut along one axis and nothing along the other."""
    cut = Cut(axis, VIDEO_DIMS[dim], even=even and dim != "t")
    return Plan(f"{dim}{axis}", values={"latent_video": (cut,)}, cut_outputs=CUT_VIDEO, last_resort=True)


def decoder_plans(even: bool = False) -> dict[str, Plan]:
    """Return the plans of the decoder, by name; the last is for videos that nothing can cut, and cuts nothing."""
    plans = [decoder_plan(dims, even) for dims in DECODER_DIMS]
    plans += [decoder_on_one_axis(dim, axis, even) for dim in VIDEO_DIMS for axis in (0, 1)]
    plans.append(Plan("whole", values={"latent_video": ()}, cut_outputs=CUT_VIDEO, last_resort=True))
    return {plan.name: plan for plan in plans}


def encoder_plan(name: str, cut_by: dict[int, str], even: bool = False, last_resort: bool = False) -> Plan:
    """Return a plan of the encoder, which cuts space alone, since it attends over time; by mesh axis what it cuts.

    Pieces are whole latent pixels, 8 x 8. Frames come to the devices cut.
    """
    cuts = tuple(Cut(axis, VIDEO_DIMS[dim], multiple=8, even=even) for axis, dim in cut_by.items())
    frames = tuple(Cut(cut.axis, cut.dim - 1, cut.multiple, cut.even) for cut in cuts)  # [F, H, W, 3] has no batch
    return Plan(name, values={"pixel_video": cuts}, inputs={"frames": frames}, last_resort=last_resort)


def encoder_plans(even: bool = False) -> dict[str, Plan]:
    """Return the plans of the encoder, by name; where pieces have to be `even`, some cut along one axis, or not at
    all."""
    plans = [encoder_plan(_video_name(dims), dict(enumerate(dims)), even) for dims in ("hw", "wh")]
    if even:
        plans += [encoder_plan(f"{dim}{axis}", {axis: dim}, even, last_resort=True) for dim in "hw" for axis in (0, 1)]
        plans.append(encoder_plan("whole", {}, last_resort=True))
    return {plan.name: plan for plan in plans}


def _video_name(dims: str) -> str:
    return "".join(f"{letter}{axis}" for axis, letter in enumerate(dims))


def transformer_plans(multiple: int = 1) -> dict[str, Plan]:
    """Return the plans of the transformer's programs, in pieces of a multiple of `multiple` tokens, by name."""
    plans = [transformer_plan(axis, multiple) for axis in (1, 0)]
    plans += [guidance_plan(axis, multiple, gathered) for gathered in (False, True) for axis in (0, 1)]
    plans += [both_axes_plan(multiple)]
    plans += [sequence_plan(axis, multiple) for axis in (1, 0)]
    return {plan.name: plan for plan in plans}


TRANSFORMER_PLANS = transformer_plans()
TEXT_PLANS = {plan.name: plan for plan in map(text_plan, ((0,), (1,), (0, 1), ()))}
DECODER_PLANS = decoder_plans()
ENCODER_PLANS = encoder_plans()

# A family of plans serves these programs. Names are unique but for the VAE's two directions, which share theirs.
Families = dict[tuple[str, ...], dict[str, Plan]]
FAMILIES: Families = {
    ("encode_text",): TEXT_PLANS,
    ("prepare_prompt", "prepare_steps", "denoise"): TRANSFORMER_PLANS,
    ("decode",): DECODER_PLANS,
    ("encode",): ENCODER_PLANS,
}


def families_for(families: Families, with_encoder: bool) -> Families:
    """Return the families of a bundle's programs, which may do without the encoder."""
    return {roles: plans for roles, plans in families.items() if with_encoder or roles != ("encode",)}


# Tokens in whole tiles of 32, and halos and norms that know of no padding.
TTNN_FAMILIES: Families = {
    ("encode_text",): TEXT_PLANS,
    ("prepare_prompt", "prepare_steps", "denoise"): transformer_plans(multiple=32),
    ("decode",): decoder_plans(even=True),
    ("encode",): encoder_plans(even=True),
}
