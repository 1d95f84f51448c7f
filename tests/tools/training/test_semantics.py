"""The measurements against clips whose scene is known, and against videos that show nothing."""

import numpy as np
import pytest
import torch

from mochi_aot.tools.training.render import render
from mochi_aot.tools.training.scenes import clip_arrays, draw_clip
from mochi_aot.tools.training.semantics import Observation, observe
from mochi_aot.tools.training.vae_stage import to_bytes


@pytest.mark.parametrize("held_out", [False, True])
def test_drawn_clips_are_seen_as_what_they_are(held_out: bool) -> None:
    clips = [draw_clip(77, number, held_out) for number in range(96)]
    videos = to_bytes(render(clip_arrays(clips), torch.device("cpu")))
    for clip, video in zip(clips, videos, strict=True):
        scene = clip.scene
        assert observe(video) == Observation(scene.colour, scene.shape, scene.motion), clip.words


def test_noise_and_softness_do_not_mislead() -> None:
    clips = [draw_clip(78, number) for number in range(64)]
    videos = render(clip_arrays(clips), torch.device("cpu"))
    soft = torch.nn.functional.avg_pool3d(videos.movedim(-1, 1), (1, 3, 3), 1, (0, 1, 1), count_include_pad=False)
    noisy = soft.movedim(1, -1) + 0.08 * torch.randn(videos.shape, generator=torch.Generator().manual_seed(0))
    seen = [observe(video) for video in to_bytes(noisy)]
    right = [all(one.agrees(clip.scene).values()) for one, clip in zip(seen, clips, strict=True)]
    assert np.mean(right) > 0.95


def test_reversed_time_reverses_motion() -> None:
    contrary = {"left": "right", "up": "down", "grow": "shrink"}
    contrary |= {value: key for key, value in contrary.items()}
    clips = [clip for clip in (draw_clip(79, number) for number in range(60)) if clip.scene.motion in contrary]
    videos = to_bytes(render(clip_arrays(clips), torch.device("cpu")))[:, ::-1]
    for clip, video in zip(clips, videos, strict=True):
        assert observe(video).motion == contrary[clip.scene.motion], clip.words


def test_nothing_is_seen_where_nothing_is() -> None:
    gray = np.full((19, 64, 96, 3), 100, np.uint8)
    noise = np.random.default_rng(0).integers(90, 110, (19, 64, 96, 3)).astype(np.uint8)
    for video in (gray, noise):
        assert observe(video) == Observation(None, None, None)


def test_a_still_shape_has_no_motion() -> None:
    clip = draw_clip(80, 1)
    frame = to_bytes(render(clip_arrays([clip]), torch.device("cpu")))[0, :1]
    seen = observe(np.repeat(frame, 19, axis=0))
    assert (seen.colour, seen.shape, seen.motion) == (clip.scene.colour, clip.scene.shape, None)
