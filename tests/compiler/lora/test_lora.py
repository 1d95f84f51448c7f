"""LoRAs merged as they are read, against diffusers' fuse_lora and Genmo's own merge, and what is no LoRA."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mochi_aot.compiler.checkpoint import Checkpoint, open_checkpoint
from mochi_aot.compiler.checkpoint.layouts import layout_sources
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.compiler.lora.errors import LoraError
from mochi_aot.compiler.lora.lora import read_lora
from mochi_aot.compiler.lora.tuned import TunedCheckpoint
from tests.compiler.lora import made

# Sums of up to four products of numbers near one, in float32, in another order: some units of the last place of it.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def genmo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model in Genmo's layout."""
    path = tmp_path_factory.mktemp("lora") / "genmo"
    write_checkpoint(path, TINY, "genmo", seed=5)
    return path


def tuned(checkpoint: Path, *loras: tuple[Path, float]) -> TunedCheckpoint:
    return TunedCheckpoint(open_checkpoint(checkpoint), [read_lora(path, TINY.dit, s) for path, s in loras])


def assert_holds(source: Checkpoint | TunedCheckpoint, expected: made.Tensors, layout: str, component: str) -> None:
    """Each of the transformer's tensors of a layout, put together of the parameters that are read."""
    for place in layout_sources(layout, TINY):
        if place.component == component:
            read = torch.cat([source.read(part).float() for part in place.parts]).reshape(place.shape)
            assert torch.allclose(read, expected[place.key], rtol=0, atol=TOLERANCE), place.key


def test_as_fuse_lora_merges(checkpoint: Path, lora: Path, tmp_path: Path) -> None:
    other = made.diffusers_lora(checkpoint, tmp_path, rank=2, alpha=1.0, seed=7)
    assert_holds(
        tuned(checkpoint, (lora, 0.7), (other, -1.5)),
        made.fused_by_diffusers(checkpoint, {lora: 0.7, other: -1.5}),
        "diffusers",
        "transformer",
    )


def test_as_genmo_merges(genmo: Path, tmp_path: Path) -> None:
    factors = made.genmo_lora(tmp_path / "lora")
    expected = made.merged_by_genmo(load_file(genmo / "dit.safetensors"), factors)
    assert_holds(tuned(genmo, (tmp_path / "lora", 1.0)), expected, "genmo", "dit")


def test_genmos_lora_for_diffusers(checkpoint: Path, genmo: Path, tmp_path: Path) -> None:
    """The same product by both formats and both oracles: stacked q, k and v have one lora_A, and thirds of lora_B."""
    factors, apart = made.genmo_lora(tmp_path / "lora"), made.Tensors()
    for key, value in factors.items():
        block, layer = re.fullmatch(r"blocks\.(\d+)\.attn\.(\w+)\.lora_[AB]", key).groups()
        names = {"proj_x": ["to_out.0"], "proj_y": ["to_add_out"], "qkv_x": ["to_q", "to_k", "to_v"]}
        names["qkv_y"] = ["add_q_proj", "add_k_proj", "add_v_proj"]
        pieces = value.chunk(len(names[layer])) if key.endswith("B") else [value] * len(names[layer])
        for name, piece in zip(names[layer], pieces, strict=True):
            scale = 1.0 if key.endswith("A") else 2.0 if "qkv" in layer else 1.0  # alpha / rank, in lora_B
            module = f"transformer.transformer_blocks.{block}.attn1.{name}"
            apart[f"{module}.lora_{key[-1]}.weight"] = (piece * scale).clone().contiguous()
    save_file(apart, tmp_path / "apart")
    expected = made.fused_by_diffusers(checkpoint, {tmp_path / "apart": 1.0})
    assert_holds(tuned(genmo, (tmp_path / "lora", 1.0)), expected, "diffusers", "transformer")
    assert_holds(tuned(checkpoint, (tmp_path / "apart", 1.0)), expected, "diffusers", "transformer")


def rewritten(lora: Path, path: Path, rename: Callable[[str], str], **notes: object) -> Path:
    metadata = {key: json.dumps(value) for key, value in notes.items()}
    save_file({rename(key): value for key, value in load_file(lora).items()}, path, metadata)
    return path


def q_scale(path: Path) -> float:
    return read_lora(path, TINY.dit).changes["dit.blocks.0.attn.q_x.weight"].factors.scale


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("transformer.", "base_model.model."),
        ("transformer.", "diffusion_model."),
        ("transformer.", ""),
        ("lora_A.weight", "lora_A.default.weight"),
        ("lora_A", "lora_down"),
        ("lora_B", "lora_linear_layer.up"),
    ],
)
def test_keys_of_other_writers(lora: Path, tmp_path: Path, old: str, new: str) -> None:
    path = rewritten(lora, tmp_path / "lora", lambda key: key.replace(old, new))
    assert read_lora(path, TINY.dit).changes.keys() == read_lora(lora, TINY.dit).changes.keys()
    assert q_scale(path) == 1.0  # nothing says another alpha


def test_what_files_say_of_alpha(lora: Path, tmp_path: Path) -> None:
    assert q_scale(lora) == 24.0 / 4  # its pattern
    assert read_lora(lora, TINY.dit, 0.5).changes["dit.blocks.0.attn.k_x.weight"].factors.scale == 0.5 * 8.0 / 4
    notes = {"transformer.r": 4, "transformer.lora_alpha": 6, "transformer.use_rslora": True}
    assert q_scale(rewritten(lora, tmp_path / "rs", str, lora_adapter_metadata=notes)) == 6 / 4**0.5
    module = "transformer.transformer_blocks.0.attn1.to_q"
    tensors = {key: value for key, value in load_file(lora).items() if key.startswith(module)}
    save_file({**tensors, f"{module}.alpha": torch.tensor(2.0)}, tmp_path / "alpha")
    assert q_scale(tmp_path / "alpha") == 2.0 / 4
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 1, "use_rslora": False}))
    assert q_scale(rewritten(lora, tmp_path / "adapter_model.safetensors", str)) == 1 / 4
    kept = rewritten(lora, tmp_path / "bad", str, lora_adapter_metadata={"transformer.r": 5})
    with pytest.raises(LoraError, match=r"bad: .* has rank 4, and the file's notes say 5"):
        read_lora(kept, TINY.dit)


Q = "transformer_blocks.0.attn1.to_q"
WRONG = [
    ({"blocks.0.attn.qkv_z.lora_A": (3, 192)}, r"qkv_z.lora_A is of no module .*; the nearest are blocks.0.attn.qkv_y"),
    ({f"{Q}.weight": (192, 192)}, r"to_q.weight is no key of a LoRA, such as "),
    ({f"{Q}.lora_A.weight": (2, 192)}, r"to_q has only .*lora_A.weight: its up half is missing"),
    ({f"{Q}.lora_A.weight": (2, 192), f"{Q}.lora_B.weight": (192, 3)}, r"expected \[192, rank\] and \[rank, 192\]"),
    ({f"{Q}.lora_A.weight": (2, 193), f"{Q}.lora_B.weight": (192, 2)}, r"this LoRA is of a model of other sizes"),
    ({f"{Q}.lora_A.weight": (0, 192), f"{Q}.lora_B.weight": (192, 0)}, r"which holds no numbers"),
    ({f"{Q}.lora_A.weight": (2, 192), f"{Q}.lora_down.weight": (2, 192)}, r"are both about transformer_blocks.0"),
    ({f"{Q}.lora_magnitude_vector": (192,)}, r"is of DoRA, and only products of two matrices"),
    ({f"{Q}.lokr_w1": (4, 4)}, r"is of LoKr"),
    ({f"{Q}.lora_B.bias": (192,)}, r"is of LoRA with biases"),
    ({}, r"holds no tensors"),
]


@pytest.mark.parametrize(("shapes", "problem"), WRONG, ids=[problem[:24] for _, problem in WRONG])
def test_what_is_no_lora_of_this_model(tmp_path: Path, shapes: dict[str, tuple[int, ...]], problem: str) -> None:
    save_file({key: torch.ones(shape) for key, shape in shapes.items()}, tmp_path / "wrong")
    with pytest.raises(LoraError, match=f"wrong: .*{problem}"):
        read_lora(tmp_path / "wrong", TINY.dit)


def test_files_that_are_not_whole(lora: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(lora.read_bytes()[:-1])
    with pytest.raises(LoraError, match="cut is not a whole safetensors file"):
        read_lora(tmp_path / "cut", TINY.dit)
    with pytest.raises(LoraError, match="none is missing: give the file of a LoRA"):
        read_lora(tmp_path / "none", TINY.dit)
    module = f"transformer.{Q}"
    factors = {f"{module}.lora_A.weight": torch.ones(2, 192), f"{module}.lora_B.weight": torch.ones(192, 2)}
    factors[f"{module}.lora_A.weight"][1, 7] = torch.nan
    save_file(factors, tmp_path / "nan")
    with pytest.raises(LoraError, match=r"lora_A.weight\[1, 7\] is nan, which is not a finite number"):
        read_lora(tmp_path / "nan", TINY.dit)
    assert read_lora(tmp_path / "nan", TINY.dit, check_weights=False).changes
    save_file({key: value.to(torch.float8_e4m3fn) for key, value in factors.items()}, tmp_path / "fp8")
    with pytest.raises(LoraError, match="is float8_e4m3fn, expected float32, bfloat16 or float16"):
        read_lora(tmp_path / "fp8", TINY.dit)


def test_fingerprints_tell_loras_and_strengths(checkpoint: Path, lora: Path, tmp_path: Path) -> None:
    """What a LoRA does not touch is told as before; what it touches, by its numbers and not by its file."""
    q, k, decoder = "dit.blocks.0.attn.q_x.weight", "dit.blocks.0.attn.k_x.weight", "decoder.conv_in.weight"
    base = open_checkpoint(checkpoint)
    one, half = tuned(checkpoint, (lora, 1.0)), tuned(checkpoint, (lora, 0.5))
    assert one.fingerprint(decoder) == base.fingerprint(decoder)
    assert len({source.fingerprint(q) for source in (base, one, half)}) == 3
    assert len({source.identity() for source in (base, one, half)}) == 3
    off = tuned(checkpoint, (lora, 0.0))
    assert off.fingerprint(q) == base.fingerprint(q) and off.identity() == base.identity()
    tensors = load_file(lora)
    tensors["transformer.transformer_blocks.0.attn1.to_k.lora_B.weight"][5, 1] += 1e-6
    save_file(tensors, tmp_path / "moved")
    copied = rewritten(lora, tmp_path / "copied", lambda key: key.removeprefix("transformer."))
    moved, same = tuned(checkpoint, (tmp_path / "moved", 1.0)), tuned(checkpoint, (copied, 1.0))
    assert moved.fingerprint(k) != same.fingerprint(k) and moved.fingerprint(q) == same.fingerprint(q)
    twice = tuned(checkpoint, (lora, 1.0), (lora, 1.0))
    assert twice.fingerprint(q) != one.fingerprint(q)


def test_rows_are_the_same_whatever_is_read_with_them(checkpoint: Path, lora: Path) -> None:
    source, name = tuned(checkpoint, (lora, 1.0)), "dit.blocks.0.mlp_x.up.weight"
    whole = source.read(name)
    assert source.dtype(name) == "float32" == str(whole.dtype).removeprefix("torch.")
    rows = torch.cat([source.read(name, (slice(i, i + 1),)) for i in range(len(whole))])
    assert torch.equal(rows, whole)
    assert torch.equal(source.read(name, (slice(2, 9), slice(3, 11))), whole[2:9, 3:11])
