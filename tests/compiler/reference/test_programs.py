"""The programs as they are traced: names of parameters, and the ops that a trace may hold."""

import operator
import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mochi_aot.compiler.checkpoint.naming import parameter_shapes
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.programs import Decode, DenoiseStep, EncodeText, EncodeVideo

COMPOSITE = {"annotate", "rms_norm", "rope", "joint_attention", "causal_conv3d", "group_norm"}
ELEMENTWISE = {"add", "sub", "mul", "div", "silu", "gelu", "tanh", "sin", "cos", "exp", "round", "clamp", "where"}
MATMULS = {"linear", "matmul", "scaled_dot_product_attention", "embedding"}
SHAPES = {"reshape", "view", "flatten", "unflatten", "unsqueeze", "squeeze", "permute", "transpose", "expand"}
PARTS = {"slice", "chunk", "cat", "stack"}
REDUCTIONS = {"mean", "sum"}
IDENTITIES = {"contiguous", "to", "_assert_tensor_metadata"}
ATEN = ELEMENTWISE | MATMULS | SHAPES | PARTS | REDUCTIONS | IDENTITIES
DTYPES = {torch.float32, torch.bfloat16, torch.int32, torch.bool, torch.uint8}

BUILDERS = {
    "encode_text": lambda config, geometry, dtype: EncodeText(config, dtype),
    "denoise": DenoiseStep,
    "decode": Decode,
    "encode": EncodeVideo,
}


def trace(role, config, geometry, dtype):
    """The exported program and the state dict of its module, without memory for any tensor."""
    with FakeTensorMode(), torch.no_grad():
        module = BUILDERS[role](config, geometry, dtype).eval()
        exported = torch.export.export(module, tuple(module.example_inputs().values()), strict=False)
    return exported, module.state_dict()


def dependent_nodes(graph):
    """The calls that depend on an input or a parameter; the others are constants."""
    dependent = {node for node in graph.nodes if node.op == "placeholder"}
    for node in graph.nodes:
        if node.op == "call_function" and dependent.intersection(node.all_input_nodes):
            dependent.add(node)
            yield node


def tensors(node):
    values = node.meta.get("val")
    return [v for v in (values if isinstance(values, (tuple, list)) else [values]) if isinstance(v, torch.Tensor)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("role", BUILDERS)
def test_trace_holds_only_ops_that_have_a_meaning_in_the_ir(config, geometry, role, dtype):
    exported, state = trace(role, config, geometry, dtype)
    for node in dependent_nodes(exported.graph):
        if node.target is not operator.getitem:
            namespace, _, name = node.target._schema.name.partition("::")
            assert name in {"aten": ATEN, "mochi": COMPOSITE}[namespace], node.format_node()
        assert {t.dtype for t in tensors(node)} <= DTYPES, node.format_node()
    assert set(exported.graph_signature.inputs_to_parameters.values()) == set(state)
    assert not exported.constants and not exported.graph_signature.buffers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("role", BUILDERS)
def test_two_dtypes_never_meet(config, geometry, role, dtype):
    exported, _ = trace(role, config, geometry, dtype)
    for node in dependent_nodes(exported.graph):
        if node.target is operator.getitem or node.target._schema.name.partition("::")[2] not in ELEMENTWISE | MATMULS:
            continue
        if node.target._schema.name in ("aten::where", "aten::embedding"):  # a condition, an index
            continue
        met = {t.dtype for argument in node.all_input_nodes for t in tensors(argument)}
        assert len(met) == 1, node.format_node()


@pytest.mark.parametrize("role", BUILDERS)
def test_outputs_have_the_shapes_and_dtypes_of_their_roles(config, geometry, role):
    module = BUILDERS[role](config, geometry, torch.float32).eval()
    output = module(*module.example_inputs().values())
    length, time = config.text_length, geometry.latent_size(config)
    assert (tuple(output.shape), output.dtype) == {
        "encode_text": ((1, length, config.text.d_model), torch.float32),
        "denoise": ((1, 12, *time), torch.float32),
        "decode": ((geometry.frames, geometry.height, geometry.width, 3), torch.uint8),
        "encode": ((1, 12, *time), torch.float32),
    }[role]


@pytest.mark.parametrize("big", [False, True], ids=["small", "published"])
def test_parameters_have_the_canonical_names_and_shapes(config, geometry, big):
    config = MochiConfig() if big else config
    with FakeTensorMode():
        modules = [build(config, geometry, torch.bfloat16) for build in BUILDERS.values()]
    states = {name: tensor for module in modules for name, tensor in module.state_dict().items()}
    assert {name: tuple(tensor.shape) for name, tensor in states.items()} == parameter_shapes(config)
    assert {name for name, tensor in states.items() if tensor.dtype is torch.float32} == {"dit.pos_frequencies"}


@pytest.mark.parametrize(
    "role, names", [("denoise", ["tokens", "captioned_tokens", "velocity_tokens"]), ("decode", ["latent_video"])]
)
def test_annotations(config, geometry, role, names):
    exported, _ = trace(role, config, geometry, torch.bfloat16)
    marked = [n for n in exported.graph.nodes if n.target is torch.ops.mochi.annotate.default]
    assert [node.args[1] for node in marked] == names


def test_scales_gates_and_conditioning_do_not_depend_on_the_latents(config, geometry):
    exported, _ = trace("denoise", config, geometry, torch.float32)
    fast = {node for node in exported.graph.nodes if node.name == "latents"}
    for node in dependent_nodes(exported.graph):
        if fast.intersection(node.all_input_nodes):
            fast.add(node)
    parameters = exported.graph_signature.inputs_to_parameters
    read = {parameters[node.name] for user in fast for node in user.all_input_nodes if node.name in parameters}
    assert "dit.blocks.1.mlp_y.up.weight" in read
    assert not [name for name in read if any(word in name for word in ("mod_", "time_embed", "caption", "final.s"))]


PUBLISHED = """
from mochi_aot.artifacts.memory import peak_memory
from mochi_aot.compiler.reference.geometry import Geometry
from tests.compiler.reference.test_programs import MochiConfig, torch, trace
exported, state = trace("denoise", MochiConfig(), Geometry(480, 848, 163), torch.bfloat16)
print(sum(tensor.numel() for tensor in state.values()), len(exported.graph.nodes), peak_memory())
"""


@pytest.mark.slow
def test_the_published_model_traces_fast_and_small():
    """In a process of its own, for its peak: that of this one is what any test before it took."""
    done = subprocess.run([sys.executable, "-c", PUBLISHED], capture_output=True, text=True, check=True)
    parameters, nodes, peak = map(int, done.stdout.split())
    assert parameters == 10_027_677_744
    assert nodes < 10_000
    assert peak < 3 * 2**30  # the weights alone would be 20 GB
