"""The two published layouts by name."""

from mochi_aot.compiler.checkpoint import diffusers, genmo
from mochi_aot.compiler.checkpoint.table import Source
from mochi_aot.compiler.checkpoint.text_encoder import text_sources
from mochi_aot.compiler.reference.config import MochiConfig

GENMO, DIFFUSERS = "genmo", "diffusers"
LAYOUTS = (GENMO, DIFFUSERS)


def layout_sources(layout: str, config: MochiConfig) -> list[Source]:
    """Return every tensor of a checkpoint of `config` in `layout`, one of LAYOUTS."""
    if layout == GENMO:
        networks = [
            *genmo.dit_sources(config.dit),
            *genmo.decoder_sources(config.vae),
            *genmo.encoder_sources(config.vae),
        ]
    else:
        networks = [*diffusers.dit_sources(config.dit), *diffusers.vae_sources(config.vae)]
    return networks + text_sources(config.text)
