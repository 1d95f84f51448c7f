"""The tables of ops are closed, and are those that the compiler emits."""

from mochi_aot.compiler.ir.ops import OPS
from mochi_aot.runtime.torch.collectives import COLLECTIVES
from mochi_aot.runtime.torch.kernels import KERNELS


def test_the_tables_do_not_overlap() -> None:
    assert not KERNELS.keys() & COLLECTIVES.keys()


def test_every_op_of_the_ir_can_run() -> None:
    """annotate is a note to the partitioner, and is gone when a program is lowered."""
    assert KERNELS.keys() | COLLECTIVES.keys() == OPS.keys() - {"annotate"}
