"""The one naming of parameters: every canonical name of a model with its shape, in the order of the networks.

A shape is that of the parameter as the reference modules hold it: a Linear weight is [out, in], a convolution weight
[out, in, time, height, width], and every 1x1x1 convolution and the patch embedding are Linear.
"""

from mochi_aot.compiler.reference.config import DiTConfig, MochiConfig, TextConfig, VAEConfig

Shape = tuple[int, ...]
Shapes = dict[str, Shape]

RGB = 3
KERNEL = (3, 3, 3)  # of every convolution in a residual block
MODULATIONS = ("scale_msa", "gate_msa", "scale_mlp", "gate_mlp")  # in the order both layouts stack them


def parameter_shapes(config: MochiConfig) -> Shapes:
    """Return the shape of every parameter of the networks by canonical name; the VAE's encoder may be absent."""
    return {
        **dit_shapes(config.dit),
        **decoder_shapes(config.vae),
        **(encoder_shapes(config.vae) if config.vae.has_encoder else {}),
        **text_shapes(config.text),
    }


def modulations(block: int, blocks: int, stream: str) -> tuple[str, ...]:
    """Return the modulations of a block's stream ("x" visual, "y" text): the last block only scales the text it
    reads."""
    return MODULATIONS[:1] if stream == "y" and block == blocks - 1 else MODULATIONS


def dit_shapes(config: DiTConfig) -> Shapes:
    """Return the parameters of AsymmDiT, prefix `dit.`."""
    width, caption = config.width, config.caption_width
    patch = config.in_channels * config.patch**2
    shapes: Shapes = {"dit.pos_frequencies": (3, config.heads, config.head_dim // 2)}
    shapes |= _linear("dit.patch_embed", width, patch)
    shapes |= _linear("dit.time_embed.fc1", width, config.frequency_width)
    shapes |= _linear("dit.time_embed.fc2", width, width)
    shapes |= _linear("dit.caption_pool.to_kv", 2 * caption, caption)
    shapes |= _linear("dit.caption_pool.to_q", caption, caption)
    shapes |= _linear("dit.caption_pool.to_out", width, caption)
    shapes |= _linear("dit.caption_proj", config.text_width, caption)
    for block in range(config.layers):
        shapes |= _block_shapes(config, block)
    shapes |= _linear("dit.final.scale", width, width)
    shapes |= _linear("dit.final.shift", width, width)
    shapes |= _linear("dit.final.proj", patch, width)
    return shapes


def decoder_shapes(config: VAEConfig) -> Shapes:
    """Return the parameters of the AsymmVAE decoder, prefix `decoder.`, from the latent to the frames."""
    channels, res = config.decoder_channels[::-1], config.decoder_res[::-1]
    factors = list(zip(config.time_factors, config.space_factors, strict=True))[::-1]
    shapes = _linear("decoder.conv_in", channels[0], config.latent_channels)
    shapes |= _resnets("decoder.block_in", channels[0], res[0])
    for stage, (time, space) in enumerate(factors):
        shapes |= _resnets(f"decoder.up.{stage}.res", channels[stage], res[stage + 1])
        shapes |= _linear(f"decoder.up.{stage}.proj", channels[stage + 1] * time * space**2, channels[stage])
    shapes |= _resnets("decoder.block_out", channels[-1], res[-1])
    shapes |= _linear("decoder.proj_out", RGB, channels[-1])
    return shapes


def encoder_shapes(config: VAEConfig) -> Shapes:
    """Return the parameters of the AsymmVAE encoder, prefix `encoder.`, from the frames to the latent's mean and log
    variance."""
    channels, res = config.encoder_channels, config.encoder_res
    shapes = _linear("encoder.proj_in", channels[0], RGB + config.fourier_features)
    shapes |= _resnets("encoder.block_in", channels[0], res[0])
    for stage, (time, space) in enumerate(zip(config.time_factors, config.space_factors, strict=True)):
        prefix, width = f"encoder.down.{stage}", channels[stage + 1]
        shapes |= {
            f"{prefix}.conv.weight": (width, channels[stage], time, space, space),
            f"{prefix}.conv.bias": (width,),
        }
        shapes |= _resnets(f"{prefix}.res", width, res[stage + 1])
        shapes |= _attentions(f"{prefix}.attn", width, res[stage + 1])
    shapes |= _resnets("encoder.block_out.res", channels[-1], res[-1])
    shapes |= _attentions("encoder.block_out.attn", channels[-1], res[-1])
    shapes |= _norm("encoder.norm_out", channels[-1])
    shapes |= _linear("encoder.proj_out", 2 * config.latent_channels, channels[-1], bias=False)
    return shapes


def text_shapes(config: TextConfig) -> Shapes:
    """Return the parameters of the T5 v1.1 encoder, prefix `text.`, named as transformers.T5EncoderModel names them."""
    shapes: Shapes = {"text.shared.weight": (config.vocab_size, config.d_model)}
    inner = config.num_heads * config.d_kv
    for block in range(config.num_layers):
        attention, feed_forward = f"text.encoder.block.{block}.layer.0", f"text.encoder.block.{block}.layer.1"
        for name in "qkv":
            shapes |= _linear(f"{attention}.SelfAttention.{name}", inner, config.d_model, bias=False)
        shapes |= _linear(f"{attention}.SelfAttention.o", config.d_model, inner, bias=False)
        if block == 0:
            buckets = (config.relative_attention_num_buckets, config.num_heads)
            shapes[f"{attention}.SelfAttention.relative_attention_bias.weight"] = buckets
        shapes[f"{attention}.layer_norm.weight"] = (config.d_model,)
        shapes |= _linear(f"{feed_forward}.DenseReluDense.wi_0", config.d_ff, config.d_model, bias=False)
        shapes |= _linear(f"{feed_forward}.DenseReluDense.wi_1", config.d_ff, config.d_model, bias=False)
        shapes |= _linear(f"{feed_forward}.DenseReluDense.wo", config.d_model, config.d_ff, bias=False)
        shapes[f"{feed_forward}.layer_norm.weight"] = (config.d_model,)
    shapes["text.encoder.final_layer_norm.weight"] = (config.d_model,)
    return shapes


def _block_shapes(config: DiTConfig, block: int) -> Shapes:
    prefix, width, text = f"dit.blocks.{block}", config.width, config.text_width
    last = block == config.layers - 1
    shapes: Shapes = {}
    for stream, out in (("x", width), ("y", text)):
        for name in modulations(block, config.layers, stream):
            shapes |= _linear(f"{prefix}.mod_{stream}.{name}", out, width)
    for stream, size in (("x", width), ("y", text)):
        for name in "qkv":
            shapes |= _linear(f"{prefix}.attn.{name}_{stream}", width, size, bias=False)
        for name in "qk":
            shapes[f"{prefix}.attn.{name}_norm_{stream}.weight"] = (config.head_dim,)
    shapes |= _linear(f"{prefix}.attn.proj_x", width, width)
    shapes |= _swiglu(f"{prefix}.mlp_x", width, config.hidden)
    if not last:
        shapes |= _linear(f"{prefix}.attn.proj_y", text, width)
        shapes |= _swiglu(f"{prefix}.mlp_y", text, config.text_hidden)
    return shapes


def _linear(name: str, out: int, size: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, size)} | ({f"{name}.bias": (out,)} if bias else {})


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _swiglu(name: str, width: int, hidden: int) -> Shapes:
    return {
        f"{name}.gate.weight": (hidden, width),
        f"{name}.up.weight": (hidden, width),
        f"{name}.down.weight": (width, hidden),
    }


def _resnets(name: str, width: int, count: int) -> Shapes:
    shapes: Shapes = {}
    for index in range(count):
        for half in "12":
            shapes |= _norm(f"{name}.{index}.norm{half}", width)
            shapes |= {
                f"{name}.{index}.conv{half}.weight": (width, width, *KERNEL),
                f"{name}.{index}.conv{half}.bias": (width,),
            }
    return shapes


def _attentions(name: str, width: int, count: int) -> Shapes:
    shapes: Shapes = {}
    for index in range(count):
        shapes |= _norm(f"{name}.{index}.norm", width)
        for part in "qkv":
            shapes |= _linear(f"{name}.{index}.{part}", width, width, bias=False)
        shapes |= _linear(f"{name}.{index}.out", width, width)
    return shapes
