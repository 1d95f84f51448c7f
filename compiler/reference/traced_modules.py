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
    """One module to trace, named as the last of the programs that it is cut into.

    `build` makes it for a dtype; of T5 it may be told another one to compute in.
    """

    name: str
    build: Callable[..., EncodeText | DenoiseStep | CheckedDecode | EncodeVideo]

    @property
    def rates(self) -> dict[str, str]:
        """How often inputs change, by name: those that the host gives to any of the module's programs."""
        return {name: rate for role in roles_of(self.name).values() for name, rate in role.inputs.items()}

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what the module returns."""
        return ROLES[self.name].results


TEXT = "encode_text"


def _text_encoder(
    config: MochiConfig, geometry: Geometry, dtype: torch.dtype, text_dtype: torch.dtype | None = None
) -> EncodeText:
    return EncodeText(config, text_dtype or dtype, dtype)


TRACED_MODULES = (
    TracedModule(TEXT, _text_encoder),
    TracedModule("denoise", DenoiseStep),
    TracedModule("decode", CheckedDecode),
    TracedModule("encode", EncodeVideo),
)
