"""Triton's compiler and NVIDIA's assembler take the kernels, in the full model's sizes; no GPU is needed for that."""

import re
from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton")

POINTERS = {"mean_ptr": "*fp32", "m2_ptr": "*fp32", "cos_ptr": "*fp32", "sin_ptr": "*fp32", "shift_ptr": "*fp32"}
POINTERS |= {"values_ptr": "*fp8e4nv", "scales_ptr": "*fp32"}
SIZES: dict[str, dict[str, Any]] = {
    "_rms_norm_rows": {"width": 3072, "columns": 4096, "tile_rows": 1, "scaled": True, "added": True},
    "_rope_rows": {"pairs": 64, "columns": 64, "tile_rows": 32, "normed": True},
    "_silu_mul_rows": {"width": 8192, "columns": 8192, "tile_rows": 1},
    "_float8_rows": {"width": 8192, "columns": 8192, "tile_rows": 1},
    "_channel_moments": {"channels": 768, "columns": 1024, "chunk": 128, "tile_rows": 4},
    "_scaled_rows": {"channels": 128, "columns": 128, "tile_rows": 32, "activated": True},
}


@pytest.mark.parametrize("name", SIZES)
def test_a_kernel_for_hopper(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made for operands that are aligned to 16 bytes, as torch's are; and it reads these 16 bytes at a time."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from mochi_aot.runtime.torch.gpu import fused

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel, sizes = getattr(fused, name), SIZES[name]
    names = kernel.arg_names
    kinds = {
        argument: "constexpr"
        if argument in sizes
        else POINTERS.get(argument, "*bf16")
        if argument.endswith("_ptr")
        else {"eps": "fp32"}.get(argument, "i32")
        for argument in names
    }
    aligned = [index for index, argument in enumerate(names) if re.search("_ptr$|_stride$", argument)]
    source = ASTSource(
        fn=kernel,
        signature=kinds,
        constexprs={(names.index(argument),): value for argument, value in sizes.items()},
        attrs={(index,): [["tt.divisibility", 16]] for index in aligned},
    )
    built = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8, "enable_fp_fusion": True})
    assert len(built.asm["cubin"]) > 1000
    loads = re.findall(r"ld\.global[.\w:]*", built.asm["ptx"])
    assert loads and all(".v4." in load or ".v2." in load for load in loads), loads
