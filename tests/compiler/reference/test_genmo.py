"""The VAE against numbers that Genmo's own code has made: see tests/genmo_numbers.py."""

import torch
from safetensors.torch import load_file

from mochi_aot.compiler.checkpoint.genmo import DECODER, add_resnet, encoder_sources
from mochi_aot.compiler.checkpoint.naming import decoder_shapes, encoder_shapes
from mochi_aot.compiler.checkpoint.presets import mirrored_vae
from mochi_aot.compiler.checkpoint.table import Source, decoder_sources, entries
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.reference.programs import DecoderUnit, EncodeVideo
from tests import genmo_numbers as genmo

VAE = mirrored_vae(tuple(genmo.BASE * multiplier for multiplier in genmo.MULTIPLIERS), tuple(genmo.RES))
CONFIG = MochiConfig(vae=VAE)
GEOMETRY = Geometry(*genmo.FRAMES_SHAPE[1:3], genmo.FRAMES_SHAPE[0])
TOLERANCE = 1e-5  # as in test_vae: the order of float32 sums


def weights(sources: list[Source], shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """The seeded weights by canonical name."""
    stored = genmo.seeded_weights(sources[0].component, {source.key: source.shape for source in sources})
    return {
        name: stored[entry.source.key][entry.start : entry.stop].reshape(entry.shape)
        for name, entry in entries(sources, shapes).items()
    }


def test_the_encoder(relative_error) -> None:
    program = EncodeVideo(CONFIG, GEOMETRY)
    program.load_state_dict(weights(encoder_sources(VAE), encoder_shapes(VAE)))
    expected = load_file(genmo.DATA)["latents"]
    assert expected.shape == (1, 12, 3, 4, 6)
    assert relative_error(program(genmo.seeded_frames()), expected) < TOLERANCE


def test_the_decoder(relative_error) -> None:
    """Frames are dropped where Genmo drops them, too: diffusers' decoder cannot say that."""
    program = DecoderUnit(CONFIG, GEOMETRY)
    program.load_state_dict(weights(decoder_sources(DECODER, VAE, add_resnet), decoder_shapes(VAE)))
    expected = load_file(genmo.DATA)["video"]
    assert expected.shape == (1, 13, 7, 10, 3)
    assert relative_error(program.video(genmo.seeded_latents())[genmo.KEPT], expected) < TOLERANCE
