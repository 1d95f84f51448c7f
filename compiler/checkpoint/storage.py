"""What is to be said of how the weights of a checkpoint are stored."""

from collections import Counter
from collections.abc import Iterable, Iterator

from mochi_aot.compiler.checkpoint.component import Component
from mochi_aot.compiler.checkpoint.stored_dtypes import DTYPE_NAMES, STORED


def storage_notes(components: Iterable[Component]) -> Iterator[str]:
    """Yield a line for each file with weights that are not read as they are stored."""
    for component in components:
        for file in component.files:
            decoded = [key for key, info in file.tensors.items() if _decoded(info.dtype)]
            for dtype in sorted({file.tensors[key].dtype for key in decoded}):
                keys = [key for key in decoded if file.tensors[key].dtype == dtype]
                scaled = any(file.scaled(key) for key in keys)
                exactly = "times its scale, rounded once" if scaled else "exactly"
                read_as = DTYPE_NAMES[STORED[dtype].dtype]
                yield f"{file.path}: {len(keys)} tensors of {STORED[dtype].name} are read as {read_as}, {exactly}"


def storage_name(component: Component) -> str:
    """Return the dtype in which most bytes of a component are stored."""
    nbytes: Counter[str] = Counter()
    for file in component.files:
        for info in file.tensors.values():
            nbytes[info.dtype] += info.nbytes
    (dtype, _), *_ = nbytes.most_common(1) or [("", 0)]
    return STORED[dtype].name if dtype in STORED else dtype


def _decoded(dtype: str) -> bool:
    return dtype in STORED and STORED[dtype].decode is not None
