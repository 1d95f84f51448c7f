"""The header of GGUF files, by the `gguf` package: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md."""

import mmap
from math import prod
from pathlib import Path

from mochi_aot.artifacts.errors import library_errors
from mochi_aot.artifacts.regular_file import open_regular
from mochi_aot.artifacts.safetensors_header import Entry
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.gguf_limits import check_gguf

_READ = ("F32", "F16", "BF16", "Q8_0")  # GGUF's names of types, which STORED has too
_BLOCK = 32  # numbers of Q8_0 that share a scale

# What llama.cpp calls the modules of T5's encoder, and transformers: enc.blk.0.attn_q.weight, token_embd.weight.
_T5_BLOCK = "enc.blk."
_T5_MODULES = {
    "attn_q": "layer.0.SelfAttention.q",
    "attn_k": "layer.0.SelfAttention.k",
    "attn_v": "layer.0.SelfAttention.v",
    "attn_o": "layer.0.SelfAttention.o",
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "attn_norm": "layer.0.layer_norm",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
    "ffn_norm": "layer.1.layer_norm",
}
_T5_TOP = {
    "token_embd.weight": "shared.weight",
    "enc.output_norm.weight": "encoder.final_layer_norm.weight",
}


def read_gguf_header(path: Path) -> dict[str, Entry]:
    """Return the tensors of a GGUF file by name, T5's as transformers names them.

    Raise CheckpointError for a file that is not whole, for types that are not read, and where `gguf` is not installed.
    """
    try:
        from gguf import GGUFReader
    except ImportError:
        raise CheckpointError(f"{path} is a GGUF file: pip install gguf, or give a safetensors file") from None
    with library_errors(lambda reason: CheckpointError(f"{path} is not a whole GGUF file ({reason}): copy it again")):
        with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            check_gguf(data)
        reader = GGUFReader(path)
    others = sorted({tensor.tensor_type.name for tensor in reader.tensors} - set(_READ))
    if others:
        raise CheckpointError(
            f"{path} has tensors of type {', '.join(others)}, and of GGUF's types {', '.join(_READ)} are read: "
            "take the q8_0 or f16 file of the same model"
        )
    tensors = {}
    for tensor in reader.tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))  # GGUF counts dimensions from the innermost
        if tensor.tensor_type.name == "Q8_0" and prod(shape[1:]) % _BLOCK:
            raise CheckpointError(f"{path}: {tensor.name} is {list(shape)} in blocks of {_BLOCK} that span its rows")
        entry = Entry(tensor.tensor_type.name, shape, int(tensor.data_offset), int(tensor.n_bytes))
        tensors[_name(tensor.name)] = entry
    return tensors


def _name(name: str) -> str:
    if name.startswith(_T5_BLOCK) and name.count(".") > _T5_BLOCK.count("."):
        block, module, *last = name.removeprefix(_T5_BLOCK).split(".")
        return ".".join(["encoder.block", block, _T5_MODULES.get(module, module), *last])
    return _T5_TOP.get(name, name)
