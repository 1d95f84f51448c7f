"""How fast the disk gives a bundle's weights to direct reads, for comparison with how fast a run got them."""

from mochi_aot.artifacts.layout import WEIGHT_FOLDER
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.tools.benchmarks.raw_reads import read_raw

_SHARE, _MOST_BYTES, _LEAST_BYTES = 1 / 16, 512 << 20, 16 << 20


def read_limit(bundle: Bundle, from_disk: int) -> float | None:
    """Bytes a second. Reads a sixteenth of the bytes `from_disk` once more, at most 512 MiB.

    None where that is too little to tell, or direct reads are not to be had.
    """
    wanted = min(_MOST_BYTES, int(from_disk * _SHARE))
    if wanted < _LEAST_BYTES:
        return None
    try:
        read = read_raw(sorted((bundle.path / WEIGHT_FOLDER).iterdir()), direct=True, most=wanted)
    except OSError:
        return None
    return read.nbytes / read.seconds
