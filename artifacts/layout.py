"""Names, numbers and limits of the bundle format; docs/format.md explains them."""

import re
from enum import Enum

FORMAT_VERSION = 4
MANIFEST_MAGIC = "mochi-aot bundle"
PROGRAM_MAGIC = "mochi-aot program"

MANIFEST_PATH = "manifest.msgpack"
TOKENIZER_PATH = "tokenizer/tokenizer.json"
PROGRAM_FOLDER = "programs"
WEIGHT_FOLDER = "weights"
KERNEL_FOLDER = "kernels"
NOTICE_FOLDER = "notices"
LORA_FOLDER = "loras"
DELTA_MAGIC = "mochi-aot delta"
DELTA_PATH = "delta.msgpack"  # in the folder of a delta
LORA_MAGIC = "mochi-aot loras"

# A page: shards start on one, so that they can be mapped, and read past the page cache.
ALIGNMENT = 4096
# A weight file is closed when the next shard would pass this size.
WEIGHT_FILE_BYTES = 4 << 30
# A weight of which all devices together hold at least this has files of its own, which another bundle can link.
OWN_FILE_BYTES = 256 << 10
# Licences and cards: how many, and of what size each.
MAX_NOTICES, MAX_NOTICE_BYTES = 32, 1 << 20
# Read whole into memory, hence bounded: at full size on 32 devices a manifest has about 6 MiB, a program less.
MAX_METADATA_BYTES = 32 << 20

LAYOUTS = ("row_major", "tile")
ARCHITECTURES = ("wormhole_b0", "blackhole")
FABRICS = ("none", "1d")
# The published default number of denoising steps: what is run unless told otherwise, and what step tables hold.
PUBLISHED_STEPS = 64
DEFAULT_GEOMETRY = "480x848x163"  # of the published videos: height, width, frames
MODEL_DTYPES = ("float32", "bfloat16")  # of weights and activations, and of how a checkpoint is stored
CHECKPOINT_LAYOUTS = ("genmo", "diffusers")  # that checkpoints are published in
CHIP_DTYPES = ("bfloat16", "bfloat8_b")  # of weights on chips, and of what chips send each other
HOST_DTYPES = ("bfloat16", "float8")  # of weights for torch, beside those of MODEL_DTYPES that `dtype` says
WEIGHTS_DTYPES = tuple(dict.fromkeys(CHIP_DTYPES + HOST_DTYPES))


class FileGroup(Enum):
    """Which weight files a shard goes to: those of one weight alone, of all small ones, or of constants."""

    OWN = "own"
    SMALL = "small"
    CONSTANT = "constant"


HASH_HEX = re.compile(r"[0-9a-f]{64}")


def program_path(digest: str) -> str:
    """Return the path of a program in the bundle, by the hash of its bytes."""
    return f"{PROGRAM_FOLDER}/{digest}.msgpack"


def weight_path(digest: str) -> str:
    """Return the path of a weight file in the bundle, by the hash of its bytes."""
    return f"{WEIGHT_FOLDER}/{digest}.bin"


def tensor_path(digest: str) -> str:
    """Return the path of a tensor file in the bundle, by the hash of its bytes."""
    return f"{WEIGHT_FOLDER}/{digest}.tensorbin"


def kernel_path(digest: str) -> str:
    """Return the path of an archive of kernels in the bundle, by the hash of its bytes."""
    return f"{KERNEL_FOLDER}/{digest}.tar"


def notice_path(digest: str) -> str:
    """Return the path of a licence or card in the bundle, by the hash of its bytes."""
    return f"{NOTICE_FOLDER}/{digest}.txt"


def factor_path(digest: str) -> str:
    """Return the path of a file of LoRAs' factors, in a bundle or a delta, by the hash of its bytes."""
    return f"{LORA_FOLDER}/{digest}.bin"


def lora_path(digest: str) -> str:
    """Return the path of a bundle's record of its LoRAs, by the hash of its bytes."""
    return f"{LORA_FOLDER}/{digest}.msgpack"


def align(offset: int) -> int:
    """Return the first multiple of ALIGNMENT at or after `offset`."""
    return -(-offset // ALIGNMENT) * ALIGNMENT
