"""Devices without memory, and devices that fail, in the words that torch 2.9 to 2.15 has for them."""

import pytest
import torch

from mochi_aot.artifacts.errors import ExitCode
from mochi_aot.runtime.errors import BackendError, DeviceMemoryError, RefusalError
from mochi_aot.runtime.torch import executor
from mochi_aot.runtime.torch.device_errors import device_errors
from mochi_aot.runtime.torch.executor import TorchExecutable
from mochi_aot.runtime.torch.mesh import Mesh
from tests.runtime.torch.programs import instruction, program, spec

FULL = (
    "CUDA out of memory. Tried to allocate 8.00 GiB. GPU 0 has a total capacity of 79.19 GiB of which 1.31 GiB "
    "is free. Including non-PyTorch memory, this process has 77.86 GiB memory in use. If reserved but unallocated "
)
TOLD = (
    "CUDA out of memory. Tried to allocate 8.00 GiB. GPU 0 has a total capacity of 79.19 GiB of which 1.31 GiB "
    "is free; take a smaller geometry, or a mesh of more devices with a process for each"
)
BROKEN = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported"
HOST = "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried 9"
CASES = [
    (torch.OutOfMemoryError(FULL), DeviceMemoryError, ExitCode.SYSTEM, TOLD),
    (torch.AcceleratorError(BROKEN), BackendError, ExitCode.DEVICE, BROKEN.partition("\n")[0]),
    (RuntimeError(HOST), DeviceMemoryError, ExitCode.SYSTEM, HOST + TOLD[TOLD.index("; take") :]),
]


@pytest.mark.parametrize(("raised", "kind", "code", "reason"), CASES)
def test_where_values_move(raised: Exception, kind: type[BackendError], code: ExitCode, reason: str) -> None:
    with pytest.raises(BackendError) as caught, device_errors("an upload"):
        raise raised
    assert type(caught.value) is kind and caught.value.exit_code is code
    assert str(caught.value) == f"an upload failed: {reason}"


@pytest.mark.parametrize(("raised", "kind", "code", "reason"), CASES)
def test_in_an_instruction(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, kind: type[BackendError], code: ExitCode, reason: str
) -> None:
    def fail(*operands: torch.Tensor) -> torch.Tensor:
        raise raised

    monkeypatch.setattr(executor, "resolve", lambda *given: fail)
    sample = program({"x": spec([2])}, [], {"y": (1, spec([2]))}, [instruction("silu", [0], [1], [])])
    with pytest.raises(BackendError) as caught:
        TorchExecutable(sample, Mesh(1, 1), {}).run({"x": [torch.ones(2)]})
    assert type(caught.value) is kind and caught.value.exit_code is code
    where = "program 'sample': instruction 0 (silu.py:1): silu(float32[2]) {} failed: "
    assert str(caught.value) == where + reason


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^The size of tensor a"), device_errors("an upload"):
        raise RuntimeError("The size of tensor a (2) must match")
    with pytest.raises(RefusalError, match=r"^no such op$"), device_errors("an upload"):
        raise RefusalError("no such op")


def test_a_host_that_has_no_room() -> None:
    """What torch really says of it: 2^60 numbers are more than any host has."""
    with pytest.raises(DeviceMemoryError, match="can't allocate memory"), device_errors("an upload"):
        torch.empty(1 << 60, dtype=torch.uint8)
