"""The picture is read back with the decoder that ffmpeg itself brings."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.runtime.video import write_video
from mochi_aot.tools.commands.contact_sheet import FRAMES, main, pick_frames


def read_picture(path: Path) -> np.ndarray:
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    picture: np.ndarray = np.frombuffer(next(reader), np.uint8).reshape(height, width, 3)
    return picture


def grey_video(path: Path, frames: int) -> None:
    """Frame i is grey of level 10 i."""
    video = np.empty((frames, 32, 64, 3), np.uint8)
    video[:] = 10 * np.arange(frames)[:, None, None, None]
    write_video(path, video)


@given(st.integers(1, 500), st.integers(1, 20))
def test_frames_are_evenly_spread(total: int, count: int) -> None:
    frames = pick_frames(total, count)
    assert len(frames) == min(total, count) and frames[0] == 0
    assert frames[-1] == (total - 1 if count > 1 else 0)
    steps = np.diff(frames)
    assert len(steps) == 0 or (steps.min() >= 1 and steps.max() - steps.min() <= 1)


def test_twelve_frames_in_three_rows(tmp_path: Path) -> None:
    grey_video(tmp_path / "in.mp4", 23)
    result = CliRunner().invoke(main, [str(tmp_path / "in.mp4"), str(tmp_path / "out.png")])
    assert result.exit_code == 0, result.output
    picture = read_picture(tmp_path / "out.png")
    assert picture.shape == (3 * 160 + 4 * 8, 4 * 320 + 5 * 8, 3)
    centres = [picture[8 + 80 + 168 * row, 8 + 160 + 328 * column, 0] for row in range(3) for column in range(4)]
    # Eight-bit video range and lossy coding: a few grey levels.
    assert np.abs(np.array(centres, int) - 20 * np.arange(FRAMES)).max() <= 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.png"]


def test_a_short_video_makes_a_small_picture(tmp_path: Path) -> None:
    grey_video(tmp_path / "in.mp4", 1)
    assert CliRunner().invoke(main, [str(tmp_path / "in.mp4"), str(tmp_path / "out.png")]).exit_code == 0
    assert read_picture(tmp_path / "out.png").shape == (160 + 2 * 8, 320 + 2 * 8, 3)


@pytest.mark.parametrize("content", [None, b"", b"not a video"])
def test_what_is_not_a_video(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "in.mp4").write_bytes(content)
    result = CliRunner().invoke(main, [str(tmp_path / "in.mp4"), str(tmp_path / "out.png")])
    assert result.exit_code == 3
    assert result.stderr == f"error: {tmp_path}/in.mp4 cannot be read as a video; give an mp4 that mochi-run wrote\n"
    assert not (tmp_path / "out.png").exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    grey_video(tmp_path / "in.mp4", 2)
    result = CliRunner().invoke(main, [str(tmp_path / "in.mp4"), str(tmp_path / "none" / "out.png")])
    assert result.exit_code == 2
    assert result.stderr == f"error: the output folder {tmp_path}/none does not exist; create it first\n"


def test_a_picture_that_ffmpeg_cannot_write(tmp_path: Path) -> None:
    """As on a full disk: no file may grow."""
    grey_video(tmp_path / "in.mp4", 2)
    place = tmp_path / "there" / "out.png"
    place.parent.mkdir()
    command = [sys.executable, "-m", "mochi_aot.tools.commands.contact_sheet", str(tmp_path / "in.mp4"), str(place)]
    result = subprocess.run(["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command], capture_output=True, text=True)
    assert result.returncode == 7
    assert result.stderr.startswith(f"error: ffmpeg failed on {place} (exit code ")
    assert result.stderr.count("\n") == 1 and not any(place.parent.iterdir())


def test_ffmpeg_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Here it is a program that never ends by itself, and leads to its process in a file."""
    program = tmp_path / "ffmpeg"
    program.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 3600\n"
    )
    program.chmod(0o755)
    words = ["-m", "mochi_aot.tools.commands.contact_sheet", str(tmp_path / "in.mp4"), str(tmp_path / "out.png")]
    environment = {**os.environ, "IMAGEIO_FFMPEG_EXE": str(program)}
    with subprocess.Popen([sys.executable, *words], env=environment) as parent:
        while not (tmp_path / "pid").exists():  # both until the test's own limit
            assert parent.poll() is None
            time.sleep(0.05)
        parent.send_signal(signal.SIGKILL)
    stat = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.05)
