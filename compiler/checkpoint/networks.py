"""Which networks a file of tensors holds, and behind which prefix: found by a tensor that each of them has.

ComfyUI puts prefixes before Genmo's keys: model.diffusion_model. for the transformer, decoder. and encoder. for the
VAE; where one file holds all, vae. before these and text_encoders.t5xxl.transformer. for T5.
"""

from mochi_aot.compiler.checkpoint.tensor_file import TensorFile

# By the name of the component that the network is in: of Genmo's layout, of Diffusers', of both. One of the tensors is
# enough, so that a file that lacks some is still known.
MARKERS = {
    "dit": ("t5_yproj.weight", "x_embedder.proj.weight", "final_layer.linear.weight"),
    "decoder": ("blocks.0.0.weight", "blocks.1.proj.weight"),
    "encoder": ("layers.1.stack.0.weight", "output_norm.weight"),
    "transformer": ("time_embed.caption_proj.weight", "patch_embed.proj.weight"),
    "vae": ("decoder.block_in.resnets.0.conv1.conv.weight", "decoder.conv_in.weight"),
    "text_encoder": ("encoder.final_layer_norm.weight", "encoder.block.0.layer.0.layer_norm.weight"),
}
TITLES = {
    "dit": "a transformer",
    "decoder": "a VAE's decoder",
    "encoder": "a VAE's encoder",
    "transformer": "a transformer",
    "vae": "a VAE",
    "text_encoder": "a T5 encoder",
}
_LORA = ("lora_A", "lora_B", "lora_down", "lora_up")


def networks(file: TensorFile) -> dict[str, TensorFile]:
    """Return the tensors of each network in a file by the name of its component, without prefixes."""
    found = {}
    for component, markers in MARKERS.items():
        prefixes = [key.removesuffix(marker) for marker in markers for key in file.tensors if key.endswith(marker)]
        prefixes = [prefix for prefix in prefixes if prefix == "" or prefix.endswith(".")]
        if prefixes:
            found[component] = file.below(min(prefixes, key=len))  # a network may hold modules of the same name
    return found


def is_lora(file: TensorFile) -> bool:
    """Return whether a file holds a LoRA: factors of changes of weights, and no weights."""
    return any(part in key for key in file.tensors for part in _LORA)


def describe(file: TensorFile) -> str:
    """Return what a file holds, in words."""
    if is_lora(file):
        return "a LoRA"
    return " and ".join(dict.fromkeys(TITLES[name] for name in networks(file))) or "no network of Mochi"
