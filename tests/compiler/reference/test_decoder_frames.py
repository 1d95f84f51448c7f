"""Which frames the decoder makes and what each may see, from the description of the decoder alone.

Time is expanded in stages, by e. A stage's first frame becomes one frame, each other one e: of the e that the first one
unfolds into, the last stays, and nothing behind sees the others. A convolution of three frames sees a frame and the two
before it; in front of the first frame there are copies of the first.
"""

import pytest
import torch
import torch.nn.functional as F

from mochi_aot.compiler.reference.vae_decoder import Decoder

EXPANSIONS = (3, 2, 1)  # of time, in the order of the stages
Sight = list[frozenset[int]]  # for each frame, the latent frames that it can see


@pytest.fixture
def decoder(config, vae_weights) -> Decoder:
    """In float64 but for its norms, so that little of what is far away is rounded off."""
    decoder = Decoder(config.vae)
    decoder.load_state_dict({n.removeprefix("decoder."): w for n, w in vae_weights.items() if n.startswith("decoder.")})
    return decoder.double()


def latents(frames: int) -> torch.Tensor:
    return torch.randn(1, frames, 1, 2, 12, dtype=torch.float64)


@pytest.mark.parametrize(
    ("latent", "counts"),
    [(1, [1, 1, 1]), (2, [4, 7, 7]), (3, [7, 13, 13]), (5, [13, 25, 25]), (28, [82, 163, 163])],
)
def test_frames_of_each_stage(decoder, latent, counts):
    seen = []
    for stage in decoder.up:
        stage.register_forward_hook(lambda _, __, video: seen.append(video.shape[1]))
    assert decoder(latents(latent)).shape == (1, counts[-1], 8, 16, 3)
    assert seen == counts


def convolved(sight: Sight, count: int) -> Sight:
    """Through so many convolutions, one after the other."""
    for _ in range(count):
        sight = [sight[max(t - 2, 0)] | sight[max(t - 1, 0)] | sight[t] for t in range(len(sight))]
    return sight


def sights(latent: int, blocks: tuple[int, ...]) -> Sight:
    """Of the output frames. `blocks` counts residual blocks of two convolutions: before each stage's end, and last."""
    sight: Sight = [frozenset((t,)) for t in range(latent)]
    for expansion, count in zip(EXPANSIONS, blocks, strict=False):
        sight = [s for s in convolved(sight, 2 * count) for _ in range(expansion)][expansion - 1 :]
    return convolved(sight, 2 * blocks[-1])


def test_each_frame_sees_the_latent_frames_that_it_can_and_no_other(config, decoder):
    *stages, last = reversed(config.vae.decoder_res)
    first, second, *others = stages  # the first are before the first stage, with nothing in between
    blocks = (first + second, *others, last)
    latent = 18
    expected = sights(latent, blocks)
    x = latents(latent)
    frames = decoder(x)[0]
    for k in range(latent):
        other = x.clone()
        other[:, k] = torch.randn_like(other[:, k])
        changed = (decoder(other)[0] != frames).flatten(1).any(1)
        assert changed.tolist() == [k in sight for sight in expected], f"latent frame {k}"
    assert expected[0] == {0} and len(expected[-1]) < latent  # neither the later ones, nor the earliest


@pytest.mark.parametrize("stage", [0, 1])
def test_nothing_sees_the_frames_that_a_stage_drops(decoder, stage):
    """Of the first frame's product only the part that becomes its last frame counts."""
    x, expansion = latents(3), EXPANSIONS[stage]
    frames = decoder(x)
    changes = []
    for part in range(expansion):

        def disturb(_: object, __: object, product: torch.Tensor, part: int = part) -> torch.Tensor:
            product = product.clone()
            parts = product.unflatten(-1, (-1, expansion, 4))  # channels, frames, pixels
            parts[:, 0, ..., part, :] += 1.0
            return product

        hook = decoder.up[stage].proj.register_forward_hook(disturb)
        changes.append(not torch.equal(decoder(x), frames))
        hook.remove()
    assert changes == [False] * (expansion - 1) + [True]


def flat_decoder(decoder: Decoder, x: torch.Tensor) -> torch.Tensor:
    """One frame [1, h, w, 12] -> [1, 8 h, 8 w, 3] by convolutions in space alone.

    A convolution over three equal frames is one over a single frame whose kernel is the sum of the three.
    """
    x = _blocks(decoder.block_in, decoder.conv_in(x))
    for stage, expansion in zip(decoder.up, EXPANSIONS, strict=True):
        product = stage.proj(_blocks(stage.res, x)).unflatten(-1, (-1, expansion, 4))[..., -1, :]
        x = F.pixel_shuffle(product.flatten(-2).movedim(-1, 1), 2).movedim(1, -1)
    return decoder.proj_out(F.silu(_blocks(decoder.block_out, x)))


def _blocks(blocks: torch.nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    for block in blocks:
        hidden = x.movedim(-1, 1)
        for norm, conv in ((block.norm1, block.conv1), (block.norm2, block.conv2)):
            hidden = F.silu(F.group_norm(hidden, norm.groups, norm.weight, norm.bias, 1e-5))
            hidden = F.conv2d(F.pad(hidden, (1, 1, 1, 1), "replicate"), conv.weight.sum(2), conv.bias)
        x = x + hidden.movedim(1, -1)
    return x


@pytest.mark.parametrize("latent", [1, 2, 4])
def test_the_first_frame_is_that_of_a_still(decoder, latent):
    """Every convolution on the way to it sees one frame and two copies of the same.

    Group norms compute in float32: some dozen roundings of 6e-8 of values up to 5.
    """
    x = latents(latent)
    torch.testing.assert_close(decoder(x)[:, 0], flat_decoder(decoder, x[:, 0]), rtol=0, atol=3e-5)
