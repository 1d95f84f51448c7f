"""mochi-bench delta: the LoRA that it makes, and what it says. What it measures is not looked at."""

from pathlib import Path

from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.lora.lora import read_lora
from mochi_aot.tools.benchmarks.delta_benchmark import LOAD, STAY, SWITCH, DeltaResult, delta_numbers, delta_report
from mochi_aot.tools.benchmarks.seeded_lora import write_seeded_lora


def test_the_lora_is_one_of_attention(tmp_path: Path) -> None:
    for seed in (1, 1, 2):
        write_seeded_lora(tmp_path / f"{seed}", TINY.dit, 4, seed)
    changes = read_lora(tmp_path / "1", TINY.dit).changes
    # q, k and v of both streams and what follows them; the last block has no text that goes on.
    assert len(changes) == 8 * TINY.dit.layers - 1 and all(".attn." in name for name in changes)
    assert {change.factors.down.shape[0] for change in changes.values()} == {4}
    assert (tmp_path / "1").read_bytes() != (tmp_path / "2").read_bytes()


def test_the_report() -> None:
    seconds = {STAY: [1.0, 2.0, 3.0], SWITCH: [2.0, 3.0, 4.0], LOAD: [5.0, 6.0, 7.0]}
    numbers = delta_numbers(DeltaResult("tiny", 4, 1 << 20, 1 << 18, 1 << 19, 1 << 12, 4300, 2.5, 0.5, seconds))
    assert numbers["seconds"][SWITCH]["median"] == 3.0 and numbers["delta_bytes"] == 4300
    text = delta_report({**numbers, "machine": {"cpu": "abacus"}})
    assert "LoRA of rank 4: 4.3 kB of delta, 1.050 of its factors, for 262 kB of 1.05 MB of weights" in text
    relink = "compile with --reuse and --trust-times: 2.5 s; it wrote 2.000 of what the LoRA touches, which is copied"
    assert f"{relink} in 0.5 s" in text and "another delta" in text
