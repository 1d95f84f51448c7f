"""Frames of files against pictures whose scaled and cut versions are known, and files that are no videos."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from mochi_aot.artifacts.schema import Geometry
from mochi_aot.runtime.errors import InputFileError, OptionError
from mochi_aot.runtime.input_video import check_video_file, frames_of, read_video

SIZE = Geometry(32, 48, 7, {})
# Bytes through 8-bit limited-range YUV and back, as in test_video.py.
LEVELS = 6


def bands(height: int, width: int, frames: int = 9) -> np.ndarray:
    """Frames whose left, middle and right thirds are red, green and blue, each frame somewhat brighter."""
    colours = np.array([[180, 30, 30], [30, 180, 30], [30, 30, 180]])
    picture = np.broadcast_to(colours[np.arange(width) * 3 // width], (height, width, 3))
    return (picture + 5 * np.arange(frames)[:, None, None, None]).astype(np.uint8)


def write(path: Path, frames: np.ndarray, *options: str) -> Path:
    """Write a file with no loss but that of 8-bit YUV without subsampling."""
    _, height, width, _ = frames.shape
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "24", "-i", "-"]
    encoding = ["-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv444p"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, *encoding, *options, str(path)]
    subprocess.run(command, input=frames.tobytes(), check=True)
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write(tmp_path / "in.mp4", bands(32, 48))


def close(made: np.ndarray, expected: np.ndarray) -> None:
    assert made.dtype == np.uint8 and made.shape == expected.shape
    assert np.abs(made.astype(int) - expected).max() <= LEVELS


def test_the_first_frames_of_a_file_of_the_right_size(clip: Path) -> None:
    check_video_file(clip, SIZE)
    close(read_video(clip, SIZE), bands(32, 48)[:7])


def test_a_larger_picture_is_scaled_by_one_factor(tmp_path: Path) -> None:
    """And cut at the middle: of 3:1 bands, half of the outer ones is lost on either side."""
    made = read_video(write(tmp_path / "wide.mkv", bands(64, 192)), SIZE)  # scaled to 32 x 96, of which 24 to 72 stay
    whole = bands(64, 192)[:7, ::2, ::2][:, :, 24:72]
    inside = np.abs(np.diff(whole[0, 0].astype(int), axis=0)).sum(axis=1) == 0
    inside = np.convolve(np.pad(inside, (1, 0), constant_values=True), np.ones(7), "same") == 7  # bicubic: 2 each way
    assert inside.sum() > 20
    close(made[:, :, inside], whole[:, :, inside])


def test_a_smaller_and_taller_picture_is_enlarged(tmp_path: Path) -> None:
    frames = np.repeat(bands(24, 24)[:, :, :1], 24, axis=2)  # one colour each
    close(read_video(write(tmp_path / "small.mp4", frames), SIZE), np.broadcast_to(frames[:7, :1, :1], (7, 32, 48, 3)))


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    """24 x 32 pixels that are twice as wide as high are a picture of 48 x 32: nothing is cut off."""
    frames = bands(32, 24)
    made = read_video(write(tmp_path / "wide.mp4", frames, "-aspect", "3:2"), SIZE)
    close(made[:, :, [4, 24, 44]], np.repeat(frames, 2, axis=2)[:7][:, :, [4, 24, 44]])


def test_arrays_and_images_are_fitted_alike(tmp_path: Path) -> None:
    frames = bands(64, 96)
    made = frames_of(frames, SIZE)
    assert made.shape == (7, 32, 48, 3)
    np.testing.assert_array_equal(frames_of([Image.fromarray(frame) for frame in frames], SIZE), made)
    np.testing.assert_array_equal(frames_of(list(frames), SIZE), made)
    np.testing.assert_array_equal(frames_of(made, SIZE), made)  # nothing to do
    read = frames_of(str(write(tmp_path / "in.mp4", frames)), SIZE)
    close(read[:, :, [4, 24, 44]], made[:, :, [4, 24, 44]])  # at edges, YUV is scaled otherwise than RGB


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (bands(32, 48, 6), "video has 6 frames, 32x48x7 needs 7"),
        (bands(32, 48) / 255, r"video is float64 \[9, 32, 48, 3\], expected uint8"),
        (bands(32, 48)[0], r"video is uint8 \[32, 48, 3\], expected uint8 \[frames, height, width, 3\]"),
        ([bands(32, 48)[0], bands(32, 16)[0]], "video has frames of different shapes"),
        (7, "video is int64"),
        ([], "video is float64"),
    ],
)
def test_what_is_no_video(video: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        frames_of(video, SIZE)


def test_a_video_that_is_too_short(tmp_path: Path) -> None:
    short = write(tmp_path / "short.mp4", bands(32, 48, 6))
    for read in (check_video_file, read_video):
        with pytest.raises(InputFileError, match=r"short.mp4 has 6 frames, 32x48x7 needs 7; give a longer video"):
            read(short, SIZE)


def test_files_that_are_none(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "text.mp4").write_text("a fox")
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:200])
    playlist = "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(playlist)
    # Of a file that is there, and could be somebody else's.
    (tmp_path / "local.m3u8").write_text(playlist.replace("http://127.0.0.1:9/a.ts", str(clip)))
    (tmp_path / "concat.mp4").write_text(f"ffconcat version 1.0\nfile {clip.name}\n")
    for name, message in {
        "none.mp4": "does not exist",
        ".": "is no file",
        "text.mp4": "is no video that ffmpeg can read",
        "cut.mp4": "is no video that ffmpeg can read",
        "list.m3u8": "is no video that ffmpeg can read",
        "local.m3u8": "is no video that ffmpeg can read",
        "concat.mp4": "is no video that ffmpeg can read",
    }.items():
        for read in (check_video_file, read_video):
            with pytest.raises(InputFileError, match=rf"^\S*{name}? ?{message}") as caught:
                read(tmp_path / name, SIZE)
            assert "\n" not in str(caught.value)


def test_a_name_that_looks_like_something_else(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-i", "http:x.mp4", "a%03d.mp4", "name with 'quotes'.mp4"):
        Path(name).write_bytes(clip.read_bytes())
        check_video_file(Path(name), SIZE)
        assert read_video(Path(name), SIZE).shape == (7, 32, 48, 3)
