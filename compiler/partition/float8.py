"""Has products with the blocks' matrices made in float8: both operands in 8 bits a number, with a scale a row.

Runs on partitioned programs, once linears were joined: rows are quantised by themselves, so joined matrices have the
numbers that each would have alone, and so do the pieces of rows that devices hold.
"""

from fnmatch import fnmatchcase

from mochi_aot.compiler.ir.builder import Builder, copy_signature
from mochi_aot.compiler.ir.program import SCALES, VALUES, Checkpoint, Concat, Op, Param, Program, Quantised, Value
from mochi_aot.compiler.ir.types import REPLICATE, Placement, Shard, TensorType
from mochi_aot.compiler.partition.cost import FLOAT8_PRODUCT
from mochi_aot.compiler.partition.plans import TRANSFORMER_INPUTS, TRANSFORMER_OUTPUTS
from mochi_aot.compiler.passes.dce import eliminate_dead_code

# Of the transformer's blocks: of the full model 96 % of the bytes of weights that a denoising step holds. What is left
# is small, runs once a prompt or a video, or, as the last projection, would show its rounding in each latent.
MATRICES = TRANSFORMER_OUTPUTS + TRANSFORMER_INPUTS
MULTIPLE = 16  # of both sizes of a device's piece: what kernels for float8 take


def in_float8(program: Program) -> Program:
    """Return a partitioned program whose products with the blocks' matrices are in float8.

    A matrix stays as it is where a device's piece has sizes that are no multiples of 16, and where its inputs are cut
    into pieces with padding, which would count in the scales.
    """
    params = {param.value: param for param in program.params}
    builder = Builder(program.name, program.mesh)
    values = copy_signature(program, builder)
    made: dict[Value, tuple[Value, Value]] = {}
    for op in program.ops:
        param = params.get(op.operands[1]) if op.opcode == "linear" else None
        if param is None or not _fits(param, program.mesh or (1, 1)):
            builder.copy_op(op, values)
            continue
        if param.value not in made:
            made[param.value] = (_quantised(builder, param, VALUES), _quantised(builder, param, SCALES))
        _emit(builder, op, values, made[param.value])
    for output in program.outputs:
        builder.output(output.name, values[output.value])
    return eliminate_dead_code(builder.program)


def _emit(builder: Builder, op: Op, values: dict[Value, Value], matrix: tuple[Value, Value]) -> None:
    x, _, *bias = (values[operand] for operand in op.operands)
    types = [op.result.type]
    (values[op.result],) = builder.emit_typed(FLOAT8_PRODUCT, [x, *matrix, *bias], types, dict(op.attrs), op.loc)


def _fits(param: Param, mesh: tuple[int, int]) -> bool:
    """Return whether a weight is made of the blocks' matrices alone, in whole multiples and without padded inputs."""
    type = param.value.type
    if not all(_is_block_matrix(name) for name in _names(param)):
        return False
    inputs = [(mesh[axis] * p.chunk) for axis, p in enumerate(type.placements) if isinstance(p, Shard) and p.dim == 1]
    whole = not inputs or inputs == [type.shape[1]]
    return whole and all(size % MULTIPLE == 0 for size in type.local_shape)


def _names(param: Param) -> list[str]:
    """Return the checkpoint's names of what is joined in a weight by rows; one that is no matrix's for others."""
    recipes = [param.recipe]
    if isinstance(param.recipe, Concat):
        recipes = [part for part, _ in param.recipe.parts] if param.recipe.dim == 0 else []
    return [recipe.name if isinstance(recipe, Checkpoint) else "" for recipe in recipes] or [""]


def _is_block_matrix(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in MATRICES)


def _quantised(builder: Builder, param: Param, part: str) -> Value:
    """Add one part of a quantised weight, cut as the weight is."""

    def leaf(recipe: object) -> Quantised:
        assert isinstance(recipe, Checkpoint)
        return Quantised(recipe.name, part)

    recipe, type = param.recipe, _type(param.value.type, part)
    if isinstance(recipe, Concat):
        joined = Concat(tuple((leaf(each), _type(each_type, part)) for each, each_type in recipe.parts), 0)
        return builder.param(f"{param.value.name}.{part}", type, joined)
    return builder.param(f"{param.value.name}.{part}", type, leaf(recipe))


def _type(matrix: TensorType, part: str) -> TensorType:
    """Return the type of a matrix's values, or of its rows' scales, which devices with pieces of a row share."""
    if part == VALUES:
        return TensorType(matrix.shape, "float8", matrix.placements)
    return TensorType(matrix.shape[:1], "float32", tuple(map(_of_rows, matrix.placements)))


def _of_rows(placement: Placement) -> Placement:
    return placement if isinstance(placement, Shard) and placement.dim == 0 else REPLICATE
