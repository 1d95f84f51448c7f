"""The weights on this process's devices, each made when it is first asked for: its bytes may be on their way."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch

from mochi_aot.artifacts.low_rank import held_pieces
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Weight
from mochi_aot.runtime.backend import Wait
from mochi_aot.runtime.torch.types import DTYPES, Value


class Weights(Mapping[str, Value]):
    """Loaded weights by name. On the CPU they are views of the mapped files."""

    def __init__(self, device: torch.device, held: Sequence[int]) -> None:
        """`held`: the devices of the mesh whose shards are wanted."""
        self._device, self._held = device, held
        self._makers: dict[str, Callable[[], Value]] = {}
        self._values: dict[str, Value] = {}

    def load(self, bundle: Bundle, name: str, wait: Wait) -> None:
        """Make a weight of the bundle known. Its bytes are touched after `wait(name)`, once it is asked for."""
        weight = bundle.weights[name]

        def make() -> Value:
            wait(name)
            return self._make(bundle, weight)

        self._makers[name] = make

    def free(self, names: Iterable[str]) -> None:
        """Forget weights; names that are not known are ignored."""
        for name in names:
            self._makers.pop(name, None)
            self._values.pop(name, None)

    def is_made(self, name: str) -> bool:
        """Return whether asking for this weight costs nothing."""
        return name in self._values

    def __getitem__(self, name: str) -> Value:
        """Return a weight, once its bytes are there. Raise KeyError if it is not loaded."""
        if name not in self._values:
            self._values[name] = self._makers[name]()
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def _make(self, bundle: Bundle, weight: Weight) -> Value:
        """Make a Value in which devices with the same shard share a tensor."""
        shards = [weight.shards[device] for device in self._held]
        tensors = {index: self._tensor(bundle.shard_bytes(index), weight) for index in set(shards)}
        if weight.name in bundle.tuned:
            return self._tuned(bundle, weight, tensors)
        placed = {index: tensor.to(self._device) for index, tensor in tensors.items()}
        return [placed[index] for index in shards]

    def _tuned(self, bundle: Bundle, weight: Weight, tensors: Mapping[int, torch.Tensor]) -> Value:
        """Make a Value to which a delta's products are added in float32; devices with the same shard and the same
        addition share a tensor."""
        columns = bundle.manifest.mesh[1]
        made: dict[object, torch.Tensor] = {}
        value = []
        for device in self._held:
            index, coordinates = weight.shards[device], divmod(device, columns)
            key = (index, held_pieces(bundle.tuned[weight.name], coordinates))
            if key not in made:
                total = torch.from_numpy(bundle.addition(weight.name, coordinates))
                total += tensors[index]  # into the sum's own memory: the shard's is mapped
                made[key] = total.to(self._device, tensors[index].dtype)
            value.append(made[key])
        return value

    def _tensor(self, data: memoryview, weight: Weight) -> torch.Tensor:
        with warnings.catch_warnings():
            # The map is read-only, and no kernel writes to its operands.
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            flat = torch.frombuffer(data, dtype=DTYPES[weight.dtype])
        return flat.view(weight.local_shape)
