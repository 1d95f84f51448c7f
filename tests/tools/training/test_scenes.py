"""Clips are the same for ever, their shapes stay inside, and they move as their scene says."""

import numpy as np
import pytest

from mochi_aot.tools.training.grammar import COLOURS
from mochi_aot.tools.training.scenes import EXTENT, FRAMES, HEIGHT, WIDTH, clip_arrays, draw_clip

CLIPS = [draw_clip(11, number, held_out=bool(number % 2)) for number in range(1500)]


def test_a_number_means_one_clip() -> None:
    again, other = draw_clip(11, 3, held_out=True), draw_clip(12, 3, held_out=True)
    assert again.words == CLIPS[3].words and np.array_equal(again.track, CLIPS[3].track)
    assert not np.array_equal(other.track, CLIPS[3].track)


def test_a_clip_is_what_it_was() -> None:
    # Written down when the generator was made: a change of it would change every recorded run.
    clip = draw_clip(0, 0)
    assert clip.words == "a cyan disk grows quickly over a light background"
    assert [values[0] for values in clip.track] == [56.0, 32.0, 7.0, 0.0]
    assert clip.colour == pytest.approx((0.08134111, 0.79680161, 0.90141389), abs=1e-8)


def test_shapes_stay_inside() -> None:
    for clip in CLIPS:
        x, y, radius, _ = clip.track
        reach = EXTENT[clip.scene.shape] * radius
        assert (x - reach).min() >= 0 and (x + reach).max() <= WIDTH, clip.words
        assert (y - reach).min() >= 0 and (y + reach).max() <= HEIGHT, clip.words


def test_tracks_are_what_the_scene_says() -> None:
    for clip in CLIPS:
        x, y, radius, angle = (values[[0, -1]] for values in clip.track)
        moved = {
            "left": x[0] - x[1] > 12,
            "right": x[1] - x[0] > 12,
            "up": y[0] - y[1] > 9,
            "down": y[1] - y[0] > 9,
            "grow": radius[1] > 1.4 * radius[0],
            "shrink": radius[0] > 1.25 * radius[1],
            "turn": abs(angle[1] - angle[0]) > 0.9,
            "bounce": np.ptp(clip.track[1]) > 12,
        }
        assert moved[clip.scene.motion], clip.words
        if clip.scene.motion in ("left", "right"):
            assert np.ptp(clip.track[1]) == 0


def test_words_for_size_and_speed_matter() -> None:
    sizes = {size: [c.track[2][0] for c in CLIPS if c.scene.size == size] for size in ("small", "large")}
    assert max(sizes["small"]) < min(sizes["large"]) + 1e-9
    sideways = [c for c in CLIPS if c.scene.motion in ("left", "right")]
    speeds = {
        speed: [abs(c.track[0][1] - c.track[0][0]) for c in sideways if c.scene.speed == speed]
        for speed in ("slowly", "quickly")
    }
    assert max(speeds["slowly"]) < min(speeds["quickly"])


def test_arrays_have_what_rendering_needs() -> None:
    arrays = clip_arrays(CLIPS[:5])
    assert arrays["track"].shape == (5, 4, FRAMES) and arrays["track"].dtype == np.float32
    for clip, colour in zip(CLIPS, arrays["colour"], strict=False):
        assert np.abs(colour - COLOURS[clip.scene.colour]).max() <= 0.02 + 1e-6
