"""Configurations that the synthetic checkpoints come in.

Genmo rounds the SwiGLU width, 8/3 of the width, up to a multiple of 256 and Diffusers rounds it down: the two agree
where visual and text width are multiples of 96. Channels of the VAE are multiples of its 32 groups.
"""

from mochi_aot.compiler.reference.config import DiTConfig, MochiConfig, TextConfig, VAEConfig


def mirrored_vae(channels: tuple[int, ...], res: tuple[int, ...]) -> VAEConfig:
    """Return a VAE whose encoder has the channels and the numbers of residual blocks of its decoder."""
    return VAEConfig(decoder_channels=channels, decoder_res=res, encoder_channels=channels, encoder_res=res)


TINY = MochiConfig(
    dit=DiTConfig(layers=2, heads=8, head_dim=24, text_width=96, caption_width=64, hidden=512, text_hidden=256),
    vae=mirrored_vae(channels=(32, 32, 64, 64), res=(1, 1, 1, 1, 1)),
    text=TextConfig(vocab_size=512, d_model=64, d_kv=8, num_heads=8, num_layers=2, d_ff=128),
)

# Large enough that matrix products take nearly all the time of a denoising step.
BENCH = MochiConfig(
    dit=DiTConfig(layers=6, heads=12, head_dim=64, text_width=384, caption_width=512, hidden=2048, text_hidden=1024),
    vae=mirrored_vae(channels=(32, 64, 96, 128), res=(1, 1, 1, 2, 1)),
    text=TextConfig(vocab_size=512, d_model=512, d_kv=64, num_heads=8, num_layers=4, d_ff=1024),
)

# Every tensor as large as in Mochi 1, but a few of the layers: 4 GB in bfloat16.
MIDDLE = MochiConfig(dit=DiTConfig(layers=4), text=TextConfig(num_layers=3))

PRESETS = {"tiny": TINY, "bench": BENCH, "middle": MIDDLE, "mochi-1": MochiConfig()}
