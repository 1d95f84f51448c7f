"""LoRAs beside weights are mentioned by their names, once each, and not those that were asked for."""

from pathlib import Path

from mochi_aot.compiler.lora.nearby import loras_beside


def test_what_lies_beside_the_weights(tmp_path: Path) -> None:
    for name in ("dit.safetensors", "my_LoRA.safetensors", "taken_lora.safetensors", "lora.txt", "loras/a.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "transformer").mkdir()
    known = tmp_path / "transformer" / "pytorch_lora_weights.safetensors"
    known.touch()
    lines = loras_beside([tmp_path, tmp_path / "transformer"], [tmp_path / "taken_lora.safetensors"])
    found = [tmp_path / "my_LoRA.safetensors", tmp_path / "loras/a.safetensors", known]
    assert [line.partition(" lies beside the weights")[0] for line in lines] == [str(path) for path in found]
    assert all(f"--lora {path} merges it" in line for path, line in zip(found, lines, strict=True))
