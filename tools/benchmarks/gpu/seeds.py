"""Seeded weights that are made where they are used: 20 GB take a GPU a second, and a host minutes."""

from collections.abc import Mapping

import torch

from mochi_aot.compiler.checkpoint.naming import Shape
from mochi_aot.compiler.checkpoint.seeded import Normal, law_of, seed_of, seeded_parameter


class DeviceSeeds:
    """Parameters by canonical name, of the laws that a seeded checkpoint has, drawn on a device in its own numbers.

    It is a Source for lowering. A parameter is drawn anew each time, and the same; the last one is kept, for whoever
    reads it in pieces.
    """

    def __init__(self, shapes: Mapping[str, Shape], dtype: torch.dtype, device: str) -> None:
        self._shapes, self._dtype, self._device = shapes, dtype, device
        self._last: tuple[str, torch.Tensor] | None = None

    def read(self, name: str, index: tuple[slice, ...] = ()) -> torch.Tensor:
        """Return part of a parameter, on the device; frequencies are float32, all else of the dtype."""
        if self._last is None or self._last[0] != name:
            self._last = None  # before the next one is there
            self._last = (name, self._draw(name))
        return self._last[1][index]

    def _draw(self, name: str) -> torch.Tensor:
        law, shape = law_of(name), self._shapes[name]
        if not isinstance(law, Normal):
            return seeded_parameter(name, shape, 0).to(self._device)
        generator = torch.Generator(self._device).manual_seed(seed_of(name, 0) % 2**63)
        values = torch.empty(shape, device=self._device).normal_(law.mean, law.spread(shape), generator=generator)
        return values.to(self._dtype)


class HostView:
    """The same parameters for the few constants that a compile computes from them, on the host."""

    def __init__(self, seeds: DeviceSeeds) -> None:
        self._seeds = seeds

    def read(self, name: str, index: tuple[slice, ...] = ()) -> torch.Tensor:
        """Return part of a parameter on the host."""
        return self._seeds.read(name, index).cpu()
