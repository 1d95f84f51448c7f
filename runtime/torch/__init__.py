"""The torch backend: a mesh simulated in one process, one tensor a device. It defines what is correct."""

from mochi_aot.runtime.torch.backend import TorchBackend

__all__ = ["TorchBackend"]
