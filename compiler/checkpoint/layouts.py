"""The two published layouts by name."""

from mochi_aot.compiler.checkpoint import diffusers, genmo
from mochi_aot.compiler.checkpoint.table import Source, decoder_sources, dit_sources
from mochi_aot.compiler.checkpoint.text_encoder import text_sources
from mochi_aot.compiler.reference.config import MochiConfig

GENMO, DIFFUSERS = "genmo", "diffusers"
LAYOUTS = (GENMO, DIFFUSERS)


def layout_sources(layout: str, config: MochiConfig) -> list[Source]:
    """Return every tensor of a checkpoint of `config` in `layout`, one of LAYOUTS."""
    if layout == GENMO:
        networks = [
            *dit_sources(genmo.DIT, config.dit, genmo.add_block),
            *decoder_sources(genmo.DECODER, config.vae, genmo.add_resnet),
            *genmo.encoder_sources(config.vae),
        ]
    else:
        networks = [
            *dit_sources(diffusers.DIT, config.dit, diffusers.add_block),
            *diffusers.vae_sources(config.vae),
        ]
    return networks + text_sources(config.text)
