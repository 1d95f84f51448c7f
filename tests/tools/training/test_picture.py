"""The picture is read back by ffmpeg, which has a PNG reader of its own."""

from pathlib import Path

import imageio_ffmpeg
import numpy as np

from mochi_aot.tools.training.picture import GAP, frame_sheet, write_png


def test_a_png_holds_the_pixels(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (34, 50, 3)).astype(np.uint8)
    write_png(tmp_path / "p.png", picture)
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "p.png"))
    assert next(reader)["size"] == (50, 34)
    assert np.array_equal(np.frombuffer(next(reader), np.uint8).reshape(34, 50, 3), picture)


def test_a_sheet_has_a_row_a_video() -> None:
    videos = np.zeros((2, 9, 8, 10, 3), np.uint8)
    videos[:] = 10 * np.arange(9)[None, :, None, None, None] + 100 * np.arange(2)[:, None, None, None, None]
    sheet = frame_sheet(videos, columns=3, scale=2)
    assert sheet.shape == (2 * (16 + GAP) + GAP, 3 * (20 + GAP) + GAP, 3)
    centres = sheet[GAP + 8 :: 16 + GAP, GAP + 10 :: 20 + GAP, 0]
    assert centres.tolist() == [[0, 40, 80], [100, 140, 180]]
    assert sheet[0].min() == 255
