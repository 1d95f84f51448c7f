"""A small model in two copies: diffusers' own modules with random weights, and the same weights by canonical name."""

from collections.abc import Callable, Iterator

import pytest
import torch
from diffusers import AutoencoderKLMochi, MochiTransformer3DModel
from torch import Tensor, nn

from mochi_aot.compiler.checkpoint.diffusers import DIT, add_block, vae_sources
from mochi_aot.compiler.checkpoint.naming import decoder_shapes, dit_shapes, encoder_shapes
from mochi_aot.compiler.checkpoint.presets import mirrored_vae
from mochi_aot.compiler.checkpoint.table import Source, dit_sources, entries
from mochi_aot.compiler.reference.config import DiTConfig, MochiConfig, TextConfig
from mochi_aot.compiler.reference.geometry import Geometry
from tests.genmo_decoder import corrected

CONFIG = MochiConfig(
    dit=DiTConfig(layers=3, heads=8, head_dim=24, text_width=96, caption_width=64, hidden=512, text_hidden=256),
    vae=mirrored_vae(channels=(32, 64, 64, 96), res=(1, 1, 1, 2, 1)),
    text=TextConfig(vocab_size=100, d_model=64, d_kv=16, num_heads=4, num_layers=2, d_ff=96),
)


@pytest.fixture(autouse=True)
def _quiet_torch() -> Iterator[None]:
    """The same random numbers for every test, no gradients, and one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def config() -> MochiConfig:
    return CONFIG


@pytest.fixture
def geometry() -> Geometry:
    """3 latent frames of 6x10: 3 * 3 * 5 tokens, a number that no mesh divides."""
    return Geometry(height=48, width=80, frames=13)


@pytest.fixture(scope="session")
def diffusers_dit() -> MochiTransformer3DModel:
    torch.manual_seed(0)
    dit = CONFIG.dit
    return randomised(
        MochiTransformer3DModel(
            patch_size=dit.patch,
            num_attention_heads=dit.heads,
            attention_head_dim=dit.head_dim,
            num_layers=dit.layers,
            pooled_projection_dim=dit.text_width,
            in_channels=dit.in_channels,
            text_embed_dim=dit.caption_width,
            time_embed_dim=dit.frequency_width,
            max_sequence_length=CONFIG.text_length,
        )
    )


@pytest.fixture(scope="session")
def diffusers_vae() -> AutoencoderKLMochi:
    """diffusers' autoencoder, whose decoder is corrected to drop frames as Genmo's does."""
    torch.manual_seed(0)
    vae = CONFIG.vae
    return corrected(
        randomised(
            AutoencoderKLMochi(
                encoder_block_out_channels=vae.encoder_channels,
                decoder_block_out_channels=vae.decoder_channels,
                layers_per_block=vae.decoder_res,
            )
        )
    )


@pytest.fixture(scope="session")
def dit_weights(diffusers_dit: MochiTransformer3DModel) -> dict[str, Tensor]:
    return canonical(diffusers_dit, dit_sources(DIT, CONFIG.dit, add_block), dit_shapes(CONFIG.dit))


@pytest.fixture(scope="session")
def vae_weights(diffusers_vae: AutoencoderKLMochi) -> dict[str, Tensor]:
    shapes = encoder_shapes(CONFIG.vae) | decoder_shapes(CONFIG.vae)
    return canonical(diffusers_vae, vae_sources(CONFIG.vae), shapes)


@pytest.fixture
def prompts(config: MochiConfig) -> Callable[[int, int], dict[str, Tensor]]:
    """Random embeddings of a prompt and a negative prompt of so many tokens, padded with random numbers."""

    def make(tokens: int, negative_tokens: int) -> dict[str, Tensor]:
        shape = (1, config.text_length, config.dit.caption_width)
        position = torch.arange(config.text_length)[None]
        return {
            "prompt_embeds": torch.randn(shape),
            "prompt_attention_mask": position < tokens,
            "negative_prompt_embeds": torch.randn(shape),
            "negative_prompt_attention_mask": position < negative_tokens,
        }

    return make


@pytest.fixture
def relative_error() -> Callable[[Tensor, Tensor], float]:
    """Largest absolute difference over the largest absolute value expected."""
    return lambda actual, expected: ((actual - expected).abs().max() / expected.abs().max()).item()


def randomised[M: nn.Module](model: M) -> M:
    """Every parameter random, so that each one matters: matrices keep their input's scale, vectors stay near theirs."""
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape)
        if parameter.dim() == 1:
            parameter.data += 0.2 * noise
        else:
            parameter.data = noise / parameter[0].numel() ** 0.5
    return model.eval()


def canonical(model: nn.Module, sources: list[Source], shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The state dict of a diffusers model by canonical name."""
    state = model.state_dict()
    assert state.keys() == {source.key for source in sources}
    return {
        name: state[entry.source.key][entry.start : entry.stop].reshape(entry.shape)
        for name, entry in entries(sources, shapes).items()
    }
