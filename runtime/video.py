"""Frames to mp4, through the ffmpeg that imageio-ffmpeg brings along."""

import errno
import os
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import imageio_ffmpeg
import numpy as np

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.runtime.defaults import DEFAULT_FPS
from mochi_aot.runtime.errors import VideoError

_OF_THE_DISK = (errno.EIO, errno.EFBIG, errno.ENOSPC, errno.EDQUOT)


def write_video(
    path: Path, frames: np.ndarray, fps: float = DEFAULT_FPS, before_frame: Callable[[], None] | None = None
) -> None:
    """Write frames uint8 [F, H, W, 3] (RGB, H and W even) as H.264 in yuv420p, whole or not at all.

    `before_frame` is called before each frame and may raise to stop. Raise VideoError, with ffmpeg's last words, if
    ffmpeg fails.
    """
    with replacing(path) as temporary, tempfile.TemporaryFile(dir=path.parent) as log:
        # A session of its own: Ctrl-C in a terminal would reach ffmpeg too, which would then end the file early.
        command = _command(temporary, frames.shape, fps)
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log, start_new_session=True)
        except OSError as error:
            raise VideoError(f"ffmpeg cannot be started ({command[0]}): {error.strerror}") from None
        try:
            _feed(process, frames, before_frame)
        except BaseException:
            process.kill()
            raise
        finally:
            process.wait()
        if process.returncode != 0:
            raise VideoError(f"ffmpeg failed on {path.name} (exit code {process.returncode}): {_why(process, log)}")


def _command(path: Path, shape: tuple[int, ...], fps: float) -> list[str]:
    _, height, width, _ = shape
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
    encoding = ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "18", "-movflags", "+faststart"]
    return [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *source, *encoding, "-f", "mp4", str(path)]


def _feed(process: subprocess.Popen, frames: np.ndarray, before_frame: Callable[[], None] | None) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # ffmpeg has gone; its exit code and log tell why
        try:
            for frame in frames:
                if before_frame is not None:
                    before_frame()
                process.stdin.write(np.ascontiguousarray(frame).data)
        finally:
            process.stdin.close()


def _why(process: subprocess.Popen, log: IO[bytes]) -> str:
    """Return ffmpeg's last words; without any, as its log is on the same full disk, what its exit code says."""
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    if lines:
        return lines[-1]
    number = 256 - process.returncode  # ffmpeg exits with the low byte of AVERROR(e), which is -e
    return os.strerror(number) if number in _OF_THE_DISK else "it said nothing"
