"""The types that all modules of the table share."""

from collections.abc import Callable, Mapping
from typing import Any

from mochi_aot.runtime.ttnn.context import Context

Attrs = Mapping[str, Any]

# An instruction, resolved: tensors in, a tensor out, or a list or tuple of them where the op has several results.
Call = Callable[..., Any]
Builder = Callable[[Attrs, Context], Call]
