"""The programs of a bundle by role, in the order in which a video uses them, and how often their inputs change."""

from collections.abc import Mapping
from dataclasses import dataclass

# How often a value changes, slowest first. A value's rate is the fastest of what it is computed from.
GEOMETRY, PROMPT, STEP, LATENT = RATES = ("geometry", "prompt", "step", "latent")
ENCODE = "encode"  # the role of the video encoder, which a bundle holds only if it was asked for


@dataclass(frozen=True)
class Role:
    """What passes between a program and the rest.

    `inputs` are what the host gives, name -> rate; every other input is an output of a program among `sources`.
    `results` are the outputs that the host reads. `module` is the part of the model that the program was cut from, by
    the rates of what it computes: the last program that was cut from it has its name.
    """

    module: str
    inputs: Mapping[str, str]
    results: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def rate(self) -> str:
        """How often the program runs: as often as the input of the host that changes most."""
        return max(self.inputs.values(), key=RATES.index)


_PROMPT = ("prompt_embeds", "prompt_attention_mask")
_BOTH_PROMPTS = (*_PROMPT, *(f"negative_{name}" for name in _PROMPT))
_STEP = ("sigma", "next_sigma", "guidance_scale")

ROLES: Mapping[str, Role] = {
    "encode_text": Role(
        "encode_text", dict.fromkeys(("input_ids", "attention_mask"), PROMPT), results=("prompt_embeds",)
    ),
    "prepare_prompt": Role("denoise", dict.fromkeys(_BOTH_PROMPTS, PROMPT)),
    "prepare_steps": Role("denoise", dict.fromkeys(_STEP, STEP), sources=("prepare_prompt",)),
    "denoise": Role(
        "denoise",
        dict.fromkeys(("latents", "step"), LATENT),
        results=("latents",),
        sources=("prepare_prompt", "prepare_steps"),
    ),
    "decode": Role("decode", {"latents": LATENT}, results=("frames", "nonfinite")),
    ENCODE: Role(ENCODE, {"frames": LATENT}, results=("latents",)),
}


def roles_of(module: str) -> dict[str, Role]:
    """Return the roles that a part of the model is cut into, the slowest first."""
    return {name: role for name, role in ROLES.items() if role.module == module}
