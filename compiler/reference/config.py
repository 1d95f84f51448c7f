"""Sizes of the four networks. Everything else in the reference follows from these numbers."""

from dataclasses import dataclass, field

# AutoencoderKLMochi().config in diffusers 0.42: per-channel statistics of the published VAE's latents.
MOCHI_LATENTS_MEAN = (
    -0.06730895953510081,
    -0.038011381506090416,
    -0.07477820912866141,
    -0.05565264470995561,
    0.012767231469026969,
    -0.04703542746246419,
    0.043896967884726704,
    -0.09346305707025976,
    -0.09918314763016893,
    -0.008729793427399178,
    -0.011931556316503654,
    -0.0321993391887285,
)
MOCHI_LATENTS_STD = (
    0.9263795028493863,
    0.9248894543193766,
    0.9393059390890617,
    0.959253732819592,
    0.8244560132752793,
    0.917259975397747,
    0.9294154431013696,
    1.3720942357788521,
    0.881393668867029,
    0.9168315692124348,
    0.9185249279345552,
    0.9274757570805041,
)


@dataclass(frozen=True)
class DiTConfig:
    """AsymmDiT. Width is heads * head_dim; the SwiGLU widths are 8/3 of the widths, as found in the checkpoint."""

    layers: int = 48
    heads: int = 24
    head_dim: int = 128
    text_width: int = 1536
    caption_width: int = 4096
    hidden: int = 8192
    text_hidden: int = 4096
    in_channels: int = 12
    patch: int = 2
    frequency_width: int = 256

    @property
    def width(self) -> int:
        return self.heads * self.head_dim


@dataclass(frozen=True)
class VAEConfig:
    """AsymmVAE. Tuples run from the widest resolution to the latent; the decoder reads them backwards.

    One without an encoder has no `encoder_channels` and no `encoder_res`.
    """

    latent_channels: int = 12
    decoder_channels: tuple[int, ...] = (128, 256, 512, 768)
    decoder_res: tuple[int, ...] = (3, 3, 4, 6, 3)  # output end first: block_out, up.2, up.1, up.0, block_in
    encoder_channels: tuple[int, ...] = (64, 128, 256, 384)
    encoder_res: tuple[int, ...] = (3, 3, 4, 6, 3)  # input end first: block_in, down.0, down.1, down.2, block_out
    time_factors: tuple[int, ...] = (1, 2, 3)  # of the three stages, input end first
    space_factors: tuple[int, ...] = (2, 2, 2)
    groups: int = 32
    fourier_features: int = 12
    attention_head_dim: int = 32
    latents_mean: tuple[float, ...] = MOCHI_LATENTS_MEAN
    latents_std: tuple[float, ...] = MOCHI_LATENTS_STD

    @property
    def has_encoder(self) -> bool:
        return bool(self.encoder_channels)


@dataclass(frozen=True)
class TextConfig:
    """T5 v1.1 encoder, as transformers.T5Config names its sizes."""

    vocab_size: int = 32128
    d_model: int = 4096
    d_kv: int = 64
    num_heads: int = 64
    num_layers: int = 24
    layer_norm_epsilon: float = 1e-6
    d_ff: int = 10240
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128


@dataclass(frozen=True)
class MochiConfig:
    """The whole model; the defaults are the published Mochi 1."""

    dit: DiTConfig = field(default_factory=DiTConfig)
    vae: VAEConfig = field(default_factory=VAEConfig)
    text: TextConfig = field(default_factory=TextConfig)
    text_length: int = 256
