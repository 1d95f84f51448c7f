"""Frames to begin with: read from a file by the ffmpeg that imageio-ffmpeg brings, and made to fit a geometry."""

import hashlib
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np

from mochi_aot.artifacts.schema import Geometry
from mochi_aot.runtime.errors import InputFileError, OptionError, VideoError
from mochi_aot.runtime.geometry import geometry_name

# Nothing but this file is opened, whatever is written in it: playlists may name addresses.
# Formats that hold a video themselves: playlists, concat scripts and the like name other files, of which nobody knows.
_FORMATS = "mov,matroska,avi,gif,apng,mpegts,mpeg,mpegvideo,flv,ogg,asf,ivf,h264,hevc,m4v,mjpeg,nut,mxf,yuv4mpegpipe"
_READING = ["-nostdin", "-protocol_whitelist", "file,pipe,fd", "-format_whitelist", _FORMATS]


def check_video_file(path: Path, geometry: Geometry) -> None:
    """Count a file's frames, without decoding them. Raise InputFileError if it is no video, or has too few."""
    copying = ["-c", "copy", *_limit(geometry), "-progress", "-", "-f", "null", "-"]
    counted = _run(path, [*_READING, *_source(path), *copying])
    numbers = re.findall(rb"^frame=\s*([0-9]+)", counted, re.MULTILINE)
    _require_frames(str(path), int(numbers[-1]) if numbers else 0, geometry)


def read_video(path: Path, geometry: Geometry) -> np.ndarray:
    """Return the first frames of a file, uint8 [F, H, W, 3] (RGB), made as large as needed and cut at the middle.

    Frames are taken as they follow each other, whatever their rate. Raise InputFileError if it is no video, or has too
    few frames.
    """
    made = _run(path, [*_READING, *_source(path), *_limit(geometry), *_fitting(geometry)])
    return _frames(made, str(path), geometry)


def frames_of(video: Any, geometry: Geometry) -> np.ndarray:
    """Return the first frames of a video, uint8 [F, H, W, 3], fitted as those of a file are.

    `video`: uint8 [frames, height, width, 3] (RGB), a list of such frames or of PIL's images, or the name of a file.
    Raise OptionError for anything else, and for too few frames; for a file what `read_video` raises.
    """
    if isinstance(video, str | Path):
        return read_video(Path(video), geometry)
    if isinstance(video, Sequence):
        sizes = {np.asarray(frame).shape for frame in video}
        if len(sizes) > 1:
            raise OptionError(f"video has frames of different shapes, {' and '.join(map(str, sorted(sizes)[:2]))}")
    frames = np.asarray(video)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise OptionError(
            f"video is {frames.dtype} {list(frames.shape)}, expected uint8 [frames, height, width, 3], bytes to 255"
        )
    return _fitted(frames, geometry)


def _fitted(frames: np.ndarray, geometry: Geometry) -> np.ndarray:
    count, height, width, _ = frames.shape
    _require_frames("video", count, geometry, OptionError)
    frames = np.ascontiguousarray(frames[: geometry.frames])
    if (height, width) == (geometry.height, geometry.width):
        return frames
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-i", "-"]
    return _frames(_run(None, [*source, *_fitting(geometry)], frames.tobytes()), "video", geometry)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file. Raise InputFileError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputFileError(f"{path} cannot be read: {error.strerror}") from None


def _source(path: Path) -> list[str]:
    return ["-i", f"file:{path}", "-map", "0:v:0"]


def _limit(geometry: Geometry) -> list[str]:
    return ["-frames:v", str(geometry.frames)]


def _fitting(geometry: Geometry) -> list[str]:
    """Return options that scale by one factor, in which pixels become square, until both sides are long enough."""
    height, width = geometry.height, geometry.width
    scale = f"w='max({width},round({height}*dar))':h='max({height},round({width}/dar))'"
    filters = f"scale={scale}:flags=bicubic+accurate_rnd+full_chroma_int,format=rgb24,crop={width}:{height}"
    return ["-vf", filters, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]


def _run(path: Path | None, options: list[str], data: bytes | None = None) -> bytes:
    """Return what ffmpeg prints. Raise InputFileError for a file that it cannot read, VideoError if it fails else."""
    if path is not None and not path.is_file():
        raise InputFileError(f"{path} {'is no file' if path.exists() else 'does not exist'}; expected a video")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *options]
    try:
        done = subprocess.run(command, input=data, capture_output=True, start_new_session=True, check=False)
    except OSError as error:
        raise VideoError(f"ffmpeg cannot be started ({command[0]}): {error.strerror}") from None
    if done.returncode != 0:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        if path is not None:
            raise InputFileError(f"{path} is no video that ffmpeg can read: {last}")
        raise VideoError(f"ffmpeg failed on frames (exit code {done.returncode}): {last}")
    return done.stdout


def _frames(made: bytes, name: str, geometry: Geometry) -> np.ndarray:
    shape = (geometry.height, geometry.width, 3)
    frames = np.frombuffer(made, np.uint8)
    whole = len(frames) // (shape[0] * shape[1] * shape[2])
    _require_frames(name, whole, geometry)
    return frames.reshape(geometry.frames, *shape)


def _require_frames(
    name: str, count: int, geometry: Geometry, error: type[InputFileError | OptionError] = InputFileError
) -> None:
    if count < geometry.frames:
        raise error(
            f"{name} has {count} frames, {geometry_name(geometry)} needs {geometry.frames}; "
            "give a longer video, or compile for a shorter geometry"
        )
