"""Known defects of ttnn: calls that it accepts and gets wrong on chips, without a word, by ttnn's version.

Neither mocked meshes nor ttnn's own golden functions show them. The compiler does not emit such instructions, and the
runtime refuses the programs of older bundles that hold them. Defects that no instruction shows, but only the order of
calls, are the runtime's to avoid; docs/ttnn.md has all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mochi_aot.artifacts.tiles import TILE_SIZE

Attrs = Mapping[str, Any]
Shapes = Sequence[Sequence[int]]
Meets = Callable[[Attrs, Shapes, tuple[int, int]], bool]

RING = "transformer.ring_joint_scaled_dot_product_attention"
TEXT_KEYS = 4  # which operand
TOKENS = 2  # dimension of [B, H, tokens, D]


@dataclass(frozen=True)
class Defect:
    """What goes wrong with a call of `op`, and under which condition: in words, and as the predicate `meets`.

    `meets` is given an instruction's attributes, the shapes of its operands on a chip, and the mesh. `wrong_in` are
    the versions of ttnn in which the defect was seen, and `seen` says how; `right_in` those in which it was gone.
    """

    name: str
    op: str
    condition: str
    effect: str
    seen: str
    meets: Meets
    wrong_in: tuple[str, ...] = ("0.81.1",)
    right_in: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.condition}, {self.effect} (ttnn {', '.join(self.wrong_in)}: known defect {self.name})"


def _text_share(attrs: Attrs, shapes: Shapes, mesh: tuple[int, int]) -> bool:
    share = shapes[TEXT_KEYS][TOKENS]
    longest = attrs.get("text_size", share * mesh[attrs["axis"]])
    _, chunk = attrs["program_config"]
    return bool(longest > share and share % chunk)


def _text_buffers(attrs: Attrs, shapes: Shapes, mesh: tuple[int, int]) -> bool:
    return "text_buffer" not in attrs


def _exponential(attrs: Attrs, shapes: Shapes, mesh: tuple[int, int]) -> bool:
    return "compute" not in attrs


DEFECTS = (
    Defect(
        name="ring-text-share",
        op=RING,
        condition=(
            "where a text can be longer than a chip's share of it and the chunk of keys does not divide the share"
        ),
        effect=(
            f"at lengths that are no multiple of {TILE_SIZE} and reach past the first share, all but the first "
            f"length % {TILE_SIZE} tokens of a full share's last tile are not attended to"
        ),
        seen="real kernels on a simulated n300 and LoudBox: PCC of attention 0.91 to 0.98, where 0.9998 is right",
        meets=_text_share,
    ),
    Defect(
        name="ring-text-buffers",
        op=RING,
        condition="without buffers for the gathered text",
        effect=(
            "ttnn allocates them itself and its kernels do not wait for each other before they start, so that a faster "
            "neighbour writes into memory that an earlier op still uses"
        ),
        seen="the wheel's kernel sources",
        meets=_text_buffers,
    ),
    Defect(
        name="softmax-exponential",
        op="softmax",
        condition="without a compute config",
        effect="the exponential is approximate: an element errs by up to 4.7 %",
        seen="real kernels on a simulated Wormhole chip; 0.55 % with hifi4",
        meets=_exponential,
    ),
)


def known_defect(op: str, attrs: Attrs, shapes: Shapes, mesh: tuple[int, int], version: str) -> Defect | None:
    """Return the first defect that a call meets in ttnn `version`, or None.

    `shapes` are those of the operands on a chip.

    A version that was not looked at is taken to have all defects.
    """
    for defect in DEFECTS:
        if defect.op == op and version not in defect.right_in and defect.meets(attrs, shapes, mesh):
            return defect
    return None


def may_be_defective(op: str) -> bool:
    """Return whether the table has an entry for `op`."""
    return any(defect.op == op for defect in DEFECTS)
