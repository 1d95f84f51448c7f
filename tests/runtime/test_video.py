"""The mp4 that ffmpeg writes is read back by the same ffmpeg."""

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from mochi_aot.runtime.errors import Interrupted, VideoError
from mochi_aot.runtime.video import write_video


def gradient(frames: int, height: int, width: int) -> np.ndarray:
    """Smooth frames of different brightness, so that compression keeps them recognisable. uint8 [F, H, W, 3]."""
    ramp = np.linspace(0, 60, width)[None, None, :, None] + np.linspace(0, 60, height)[None, :, None, None]
    return np.broadcast_to(ramp + np.arange(frames)[:, None, None, None] * 10, (frames, height, width, 3)).astype("u1")


def read(path: Path) -> tuple[dict, np.ndarray]:
    reader = imageio_ffmpeg.read_frames(str(path))
    info = next(reader)
    width, height = info["size"]
    return info, np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


@pytest.mark.parametrize("fps", [30.0, 23.976])
def test_written_frames_can_be_read(tmp_path: Path, fps: float) -> None:
    frames = gradient(7, 16, 48)
    write_video(tmp_path / "out.mp4", frames, fps)
    info, seen = read(tmp_path / "out.mp4")
    assert info["size"] == (48, 16)  # not resized to another block size
    assert info["codec"] == "h264" and info["pix_fmt"].startswith("yuv420p")
    assert info["fps"] == pytest.approx(fps, abs=0.01)  # ffmpeg prints two digits
    assert seen.shape == frames.shape
    # x264 at crf 18 on a smooth ramp, and limited-range YUV of 8 bits: a few grey levels of 256.
    assert np.abs(seen.astype(int) - frames).mean() < 4
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_colours_keep_their_places(tmp_path: Path) -> None:
    """Plain frames lose nothing to 4:2:0; what is left is the rounding of 8-bit limited-range YUV, both ways."""
    colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [200, 200, 40]], np.uint8)
    frames = np.broadcast_to(colours[:, None, None, :], (4, 16, 32, 3))
    write_video(tmp_path / "out.mp4", frames)
    _, seen = read(tmp_path / "out.mp4")
    assert np.abs(seen.astype(int) - frames).max() <= 6


def test_ffmpeg_failure_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"^ffmpeg failed on [^\n]*odd.mp4 \(exit code [0-9]+\): [^\n]+$"):
        write_video(tmp_path / "odd.mp4", gradient(3, 15, 17))  # 4:2:0 needs even sizes
    assert not list(tmp_path.iterdir())


def test_ffmpeg_that_dies_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames larger than the pipe's buffer meet a closed pipe; the error is ffmpeg's, not the pipe's."""
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: "false")
    with pytest.raises(VideoError, match=r"exit code 1.*said nothing"):
        write_video(tmp_path / "out.mp4", gradient(9, 256, 256))
    assert not list(tmp_path.iterdir())


def test_missing_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(tmp_path / "no-ffmpeg"))
    with pytest.raises(VideoError, match="ffmpeg cannot be started"):
        write_video(tmp_path / "out.mp4", gradient(1, 16, 16))


def test_a_stop_between_frames_leaves_the_old_video(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"old")
    calls = iter([None, None])

    def stop_at_third() -> None:
        try:
            next(calls)
        except StopIteration:
            raise Interrupted from None

    with pytest.raises(Interrupted):
        write_video(tmp_path / "out.mp4", gradient(9, 16, 16), before_frame=stop_at_third)
    assert (tmp_path / "out.mp4").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
