"""Frames of a video side by side in one picture: python -m mochi_aot.tools.commands.contact_sheet IN.mp4 OUT.png"""

import ctypes
import math
import re
import signal
import subprocess
from pathlib import Path

import click
import imageio_ffmpeg

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.runtime.errors import InputFileError, VideoError
from mochi_aot.runtime.paths import check_writable
from mochi_aot.tools.commands.cli import MochiCommand, print_text

FRAMES = 12
COLUMNS = 4
WIDTH = 320  # pixels of one frame in the picture
_PR_SET_PDEATHSIG = 1


def pick_frames(total: int, count: int) -> list[int]:
    """Return the indices of at most `count` frames of `total`, evenly spread, the first and the last among them."""
    count = min(count, total)
    return [round(index * (total - 1) / max(count - 1, 1)) for index in range(count)]


def write_contact_sheet(video: Path, picture: Path) -> None:
    """Write up to 12 frames of `video` as a PNG. Raise InputFileError if ffmpeg cannot read the one, OutputError for
    a place where nothing can be written, and VideoError if ffmpeg cannot write the other."""
    check_writable(picture, force=True)
    frames = pick_frames(count_frames(video), FRAMES)
    columns = min(COLUMNS, len(frames))
    chosen = "+".join(f"eq(n,{frame})" for frame in frames)
    tiles = f"tile={columns}x{math.ceil(len(frames) / columns)}:margin=8:padding=8:color=white"
    filters = f"select='{chosen}',scale={WIDTH}:-2,{tiles}"
    with replacing(picture) as temporary:
        png = ["-frames:v", "1", "-c:v", "png", "-f", "image2", "-update", "1", str(temporary)]
        done = _ffmpeg("-y", "-i", str(video), "-vf", filters, *png)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise VideoError(f"ffmpeg failed on {picture} (exit code {done.returncode}): {reason}")


def count_frames(video: Path) -> int:
    """Return how many frames a video has. Raise InputFileError if ffmpeg cannot read it."""
    done = _ffmpeg("-i", str(video), "-map", "0:v:0", "-f", "null", "-progress", "pipe:1", "-")
    counts = re.findall(r"^frame=(\d+)$", done.stdout, re.MULTILINE)  # so far, every half second and at the end
    if done.returncode != 0 or not counts or counts[-1] == "0":
        raise InputFileError(f"{video} cannot be read as a video; give an mp4 that mochi-run wrote")
    return int(counts[-1])


def _ffmpeg(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run ffmpeg, which ends with this process, however that ends."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *words]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        preexec_fn=_end_with_parent,
    )


def _end_with_parent() -> None:
    """Have Linux kill this process with its parent: see prctl(2)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@click.command(cls=MochiCommand)
@click.argument("video", type=click.Path(path_type=Path))
@click.argument("picture", type=click.Path(path_type=Path))
def main(video: Path, picture: Path) -> None:
    """Write frames of VIDEO, evenly spread, side by side into PICTURE, a PNG."""
    write_contact_sheet(video, picture)
    print_text(f"{picture}: up to {FRAMES} frames of {video}")


if __name__ == "__main__":
    main()
