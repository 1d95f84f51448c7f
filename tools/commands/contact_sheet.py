"""Frames of a video side by side in one picture: python -m mochi_aot.tools.commands.contact_sheet IN.mp4 OUT.png"""

import math
import subprocess
from pathlib import Path

import click
import imageio_ffmpeg

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.runtime.errors import InputFileError, VideoError
from mochi_aot.tools.commands.cli import MochiCommand

FRAMES = 12
COLUMNS = 4
WIDTH = 320  # pixels of one frame in the picture


def pick_frames(total: int, count: int) -> list[int]:
    """Indices of at most `count` frames of `total`, evenly spread, the first and the last among them."""
    count = min(count, total)
    return [round(index * (total - 1) / max(count - 1, 1)) for index in range(count)]


def write_contact_sheet(video: Path, picture: Path) -> None:
    """Write up to 12 frames of `video` as a PNG. Raise InputFileError if ffmpeg cannot read the one, and
    VideoError if it cannot write the other."""
    try:
        total, _ = imageio_ffmpeg.count_frames_and_secs(str(video))
    except RuntimeError:
        raise InputFileError(f"{video} cannot be read as a video; give an mp4 that mochi-run wrote") from None
    frames = pick_frames(total, FRAMES)
    columns = min(COLUMNS, len(frames))
    chosen = "+".join(f"eq(n,{frame})" for frame in frames)
    tiles = f"tile={columns}x{math.ceil(len(frames) / columns)}:margin=8:padding=8:color=white"
    filters = f"select='{chosen}',scale={WIDTH}:-2,{tiles}"
    with replacing(picture) as temporary:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-i", str(video), "-vf", filters]
        command += ["-frames:v", "1", "-c:v", "png", "-f", "image2", "-update", "1", str(temporary)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise VideoError(f"ffmpeg failed on {picture} (exit code {done.returncode}): {reason}")


@click.command(cls=MochiCommand)
@click.argument("video", type=click.Path(path_type=Path))
@click.argument("picture", type=click.Path(path_type=Path))
def main(video: Path, picture: Path) -> None:
    """Write frames of VIDEO, evenly spread, side by side into PICTURE, a PNG."""
    write_contact_sheet(video, picture)
    click.echo(f"{picture}: up to {FRAMES} frames of {video}")


if __name__ == "__main__":
    main()
