"""Pictures without a library: rows of frames as a PNG."""

import struct
import zlib
from pathlib import Path

import numpy as np

GAP = 4  # pixels between tiles
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def frame_sheet(videos: np.ndarray, columns: int, scale: int = 1) -> np.ndarray:
    """One row for each video, of `columns` frames evenly spread, on white.

    videos: uint8 [n, F, H, W, 3]. Every pixel becomes `scale` x `scale` ones. Returns uint8 [rows, columns, 3].
    """
    count, frames, height, width, _ = videos.shape
    chosen = np.linspace(0, frames - 1, min(columns, frames)).round().astype(int)
    height, width = height * scale, width * scale
    sheet = np.full((count * (height + GAP) + GAP, len(chosen) * (width + GAP) + GAP, 3), 255, np.uint8)
    for row, video in enumerate(videos):
        for column, frame in enumerate(video[chosen]):
            top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
            sheet[top : top + height, left : left + width] = frame.repeat(scale, 0).repeat(scale, 1)
    return sheet


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write uint8 [H, W, 3] as an RGB PNG."""
    height, width, _ = picture.shape
    # Filter 2 in each row: differences to the row above, modulo 256, which are smaller to compress.
    differences = np.diff(picture.reshape(height, -1), axis=0, prepend=np.zeros((1, width * 3), np.uint8))
    rows = np.concatenate([np.full((height, 1), 2, np.uint8), differences], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    path.write_bytes(SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
