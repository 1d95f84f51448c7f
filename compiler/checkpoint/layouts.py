"""The two published layouts by name."""

from mochi_aot.artifacts.layout import CHECKPOINT_LAYOUTS
from mochi_aot.compiler.checkpoint import diffusers, genmo
from mochi_aot.compiler.checkpoint.table import Source, decoder_sources, dit_sources
from mochi_aot.compiler.checkpoint.text_encoder import text_sources
from mochi_aot.compiler.reference.config import MochiConfig

GENMO, DIFFUSERS = LAYOUTS = CHECKPOINT_LAYOUTS


def layout_sources(layout: str, config: MochiConfig, vae_layout: str | None = None) -> list[Source]:
    """Return every tensor of a checkpoint of `config` in `layout`, one of LAYOUTS; the VAE's may be in another."""
    if layout == GENMO:
        transformer = dit_sources(genmo.DIT, config.dit, genmo.add_block)
    else:
        transformer = dit_sources(diffusers.DIT, config.dit, diffusers.add_block)
    if (vae_layout or layout) == GENMO:
        vae = decoder_sources(genmo.DECODER, config.vae, genmo.add_resnet)
        vae += genmo.encoder_sources(config.vae) if config.vae.has_encoder else []
    else:
        vae = diffusers.vae_sources(config.vae)
    return [*transformer, *vae, *text_sources(config.text)]
