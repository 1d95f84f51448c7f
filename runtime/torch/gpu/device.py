"""A GPU: its settings, and programs on it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from mochi_aot.runtime.backend import Executable, Watch
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.torch.device_errors import device_errors, reason_of
from mochi_aot.runtime.torch.types import Value

# torch takes the first of these that can do what is asked. cuDNN's is the fastest on Hopper, and what NVIDIA tunes for
# what comes after it; flash attention reads what it does not; float32 is for the last two.
ATTENTION_ORDER = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


def choose_gpu(index: int | None = None) -> torch.device:
    """Make a GPU this process's, its current one or that of an index, and have it compute float32 in float32.

    Raise BackendError if it is not there.
    """
    if not torch.cuda.is_available():
        raise BackendError("device cuda: torch finds no usable GPU here; use cpu")
    count = torch.cuda.device_count()
    if index is not None and index >= count:
        raise BackendError(f"device cuda: process {index} of this host wants a GPU of its own, and there are {count}")
    full_precision()
    try:
        if index is not None:
            torch.cuda.set_device(index)
        return torch.device("cuda", torch.cuda.current_device())
    except RuntimeError as error:  # whatever a driver that is there says against being used
        raise BackendError(f"device cuda: {reason_of(error)}") from error


def full_precision() -> None:
    """Have GPUs compute float32 in float32, not TensorFloat-32, and sum bfloat16 products in float32."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


@contextmanager
def fastest_attention() -> Iterator[None]:
    """Have attention in the block computed by the first of ATTENTION_ORDER that can do it."""
    with sdpa_kernel(ATTENTION_ORDER, set_priority=True):
        yield


class GpuExecutable:
    """Runs a program on a GPU, and returns when the GPU has run it: until then no error is known, and no step done."""

    def __init__(self, executable: Executable, watched: Executable, name: str, device: torch.device) -> None:
        """`watched` has the instructions of the bundle, one by one, for who watches; it may be the same."""
        self._executable, self._watched, self._name, self._device = executable, watched, name, device

    def run(self, inputs: Mapping[str, Value], watch: Watch | None = None) -> dict[str, Value]:
        """Return outputs by name. Raise as the executable's run does, and BackendError if the GPU fails later."""
        with device_errors(f"program {self._name!r}"), torch.cuda.device(self._device), fastest_attention():
            outputs = self._executable.run(inputs) if watch is None else self._watched.run(inputs, watch)
            torch.cuda.current_stream().synchronize()
        return outputs
