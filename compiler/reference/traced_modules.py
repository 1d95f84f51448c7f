"""What is traced: the parts of the model that a bundle's programs are cut from."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mochi_aot.artifacts.roles import ROLES, roles_of
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.reference.programs import CheckedDecode, DenoiseStep, EncodeText, EncodeVideo


@dataclass(frozen=True)
class TracedModule:
    """One module to trace, named as the last of the programs that it is cut into."""

    name: str
    build: Callable[[MochiConfig, Geometry, torch.dtype], EncodeText | DenoiseStep | CheckedDecode | EncodeVideo]

    @property
    def rates(self) -> dict[str, str]:
        """How often inputs change, by name: those that the host gives to any of the module's programs."""
        return {name: rate for role in roles_of(self.name).values() for name, rate in role.inputs.items()}

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what the module returns."""
        return ROLES[self.name].results


TRACED_MODULES = (
    TracedModule("encode_text", lambda config, geometry, dtype: EncodeText(config, dtype)),
    TracedModule("denoise", DenoiseStep),
    TracedModule("decode", CheckedDecode),
    TracedModule("encode", EncodeVideo),
)
