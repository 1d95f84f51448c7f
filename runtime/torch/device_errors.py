"""What torch raises for a device that has no memory left, or that failed, as errors of the runtime."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mochi_aot.runtime.errors import BackendError, DeviceMemoryError, RefusalError

_ADVICE = "; take a smaller geometry, or a mesh of more devices with a process for each"
_NO_HOST_MEMORY = "can't allocate memory"  # what torch says of a host, in a RuntimeError


@contextmanager
def device_errors(what: str) -> Iterator[None]:
    """Make BackendErrors of a device's errors in the block, which does `what`, such as "upload of 'latents'"."""
    try:
        yield
    except RuntimeError as error:
        kind = kind_of(error)
        if kind is RefusalError:
            raise
        raise kind(f"{what} failed: {reason_of(error)}") from error


def kind_of(error: Exception) -> type[BackendError]:
    """Return DeviceMemoryError for want of memory, BackendError for a device that failed, else RefusalError."""
    if isinstance(error, torch.OutOfMemoryError) or _NO_HOST_MEMORY in str(error):
        return DeviceMemoryError
    return BackendError if isinstance(error, torch.AcceleratorError) else RefusalError


def reason_of(error: Exception) -> str:
    """Return what an error says, on one line, without torch's advice; for want of memory with ours."""
    line = str(error).partition("\n")[0] or type(error).__name__
    if kind_of(error) is not DeviceMemoryError:
        return line
    # "CUDA out of memory. Tried to allocate .. . GPU 0 has a total capacity of .. of which .. is free. [much more]"
    return line.partition(" is free.")[0] + (" is free" if " is free." in line else "") + _ADVICE
