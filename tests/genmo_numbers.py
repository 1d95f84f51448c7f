"""What Genmo's own VAE makes of seeded weights and inputs, kept in tests/data/genmo/vae.safetensors, and the recipe.

Weights and inputs are of numpy's RandomState, whose numbers no version changes, so that results alone are kept. Again:

    git clone https://github.com/genmoai/mochi && git -C mochi checkout 0c86aebf386e6622deadfb47ff1996878cefc0ac
    pip install einops
    PYTHONPATH=mochi/src:. python -m tests.genmo_numbers tests/data/genmo/vae.safetensors
"""

import math
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

BASE, MULTIPLIERS, RES = 32, [1, 2, 3, 4], [1, 1, 2, 1, 1]  # channels are BASE * MULTIPLIERS; blocks of each stage
LATENT_SHAPE = (1, 12, 3, 4, 6)
FRAMES_SHAPE = (13, 32, 48, 3)
KEPT = (slice(None), slice(None), slice(None, None, 5), slice(None, None, 5), slice(None))  # of the decoded video
DATA = Path(__file__).parent / "data/genmo/vae.safetensors"


def seeded(name: str, shape: Sequence[int]) -> Tensor:
    """Return float32 numbers that depend on the name alone: matrices keep their input's scale, weights of norms are
    near 1 and biases near 0."""
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(math.prod(shape)).reshape(shape)
    scale, middle = (0.2, not name.endswith("bias")) if len(shape) == 1 else (math.prod(shape[1:]) ** -0.5, 0.0)
    return torch.from_numpy((scale * noise + middle).astype(np.float32))


def seeded_weights(component: str, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return the weights of "encoder" or "decoder", by Genmo's keys."""
    return {key: seeded(f"{component}.{key}", shape) for key, shape in shapes.items()}


def seeded_latents() -> Tensor:
    """Return latents as the sampler sees them: float32 LATENT_SHAPE."""
    return seeded("latents", LATENT_SHAPE) * math.sqrt(math.prod(LATENT_SHAPE[1:]))


def seeded_frames() -> Tensor:
    """Return a video of noise: uint8 FRAMES_SHAPE."""
    return torch.from_numpy(np.random.RandomState(7).randint(0, 256, FRAMES_SHAPE).astype(np.uint8))


def _filled[M: nn.Module](component: str, module: M) -> M:
    shapes = {key: tensor.shape for key, tensor in module.state_dict().items()}
    module.load_state_dict(seeded_weights(component, shapes))
    return module.eval()


def genmo_numbers() -> dict[str, Tensor]:
    """Run Genmo's code: `latents` of the video, and of `video`, made of the latents, what KEPT takes."""
    from genmo.mochi_preview.vae import models, vae_stats  # type: ignore[import-not-found]

    both: dict[str, Any] = {"base_channels": BASE, "channel_multipliers": MULTIPLIERS, "num_res_blocks": RES}
    encoder = models.Encoder(
        in_channels=15,
        latent_dim=12,
        temporal_reductions=[1, 2, 3],
        spatial_reductions=[2, 2, 2],
        prune_bottlenecks=[False] * 5,
        has_attentions=[False, True, True, True, True],
        input_is_conv_1x1=True,
        padding_mode="replicate",
        **both,
    )
    decoder = models.Decoder(
        latent_dim=12,
        temporal_expansions=[1, 2, 3],
        spatial_expansions=[2, 2, 2],
        has_attention=[False] * 5,
        output_norm=False,
        **both,
    )
    pixels = seeded_frames().permute(3, 0, 1, 2)[None].float() / 127.5 - 1.0
    mean = _filled("encoder", encoder)(models.add_fourier_features(pixels)).mean
    video = _filled("decoder", decoder)(vae_stats.dit_latents_to_vae_latents(seeded_latents()))
    return {
        "latents": vae_stats.vae_latents_to_dit_latents(mean).contiguous(),
        "video": video.movedim(1, -1)[KEPT].contiguous(),
    }


if __name__ == "__main__":
    with torch.no_grad():
        save_file(genmo_numbers(), sys.argv[1])
