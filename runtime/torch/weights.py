"""The weights on this process's devices, each made when it is first asked for: its bytes may be on their way."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch

from mochi_aot.artifacts.low_rank import held_pieces
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Weight
from mochi_aot.runtime.backend import Wait
from mochi_aot.runtime.torch.gpu.uploads import Upload, Uploads, call_off
from mochi_aot.runtime.torch.types import DTYPES, Value


class Weights(Mapping[str, Value]):
    """Loaded weights by name. On the CPU they are views of the mapped files."""

    def __init__(self, held: Sequence[int], uploads: Uploads | None = None) -> None:
        """`held`: the devices of the mesh whose shards are wanted. `uploads` brings them to a GPU, ahead of use."""
        self._held, self._uploads = held, uploads
        self._coming: dict[str, Upload] = {}
        self._makers: dict[str, Callable[[], Value]] = {}
        self._values: dict[str, Value] = {}

    def load(self, bundle: Bundle, name: str, wait: Wait) -> None:
        """Make a weight of the bundle known. Its bytes are touched after `wait(name)`, once it is asked for."""
        weight = bundle.weights[name]

        def make() -> Value:
            wait(name)
            return self._make(bundle, weight)

        if self._uploads is None:
            self._makers[name] = make
        else:
            self._coming[name] = self._uploads.begin(make)
            self._makers[name] = self._coming[name].value

    def hold(self, name: str, value: Value) -> None:
        """Take a weight that is on the devices already."""
        self._makers[name] = lambda: value
        self._values[name] = value

    def free(self, names: Iterable[str]) -> None:
        """Forget weights; names that are not known are ignored. None of these is waited for any more."""
        names = list(names)
        call_off([self._coming.pop(name) for name in names if name in self._coming])
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
            self._coming.pop(name, None)
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def _make(self, bundle: Bundle, weight: Weight) -> Value:
        """Make a Value of the host in which devices with the same shard share a tensor."""
        shards = [weight.shards[device] for device in self._held]
        tensors = {index: self._tensor(bundle.shard_bytes(index), weight) for index in set(shards)}
        if weight.name in bundle.tuned:
            return self._tuned(bundle, weight, tensors)
        return [tensors[index] for index in shards]

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
                made[key] = total.to(tensors[index].dtype)
            value.append(made[key])
        return value

    def _tensor(self, data: memoryview, weight: Weight) -> torch.Tensor:
        with warnings.catch_warnings():
            # The map is read-only, and no kernel writes to its operands.
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            flat = torch.frombuffer(data, dtype=DTYPES[weight.dtype])
        return flat.view(weight.local_shape)
