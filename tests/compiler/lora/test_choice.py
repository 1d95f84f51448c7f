"""Which LoRA a text names, and where its file is: a path, a folder's, or one of the hub's."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from mochi_aot.compiler.lora.choice import LoraChoice, parse_lora
from mochi_aot.compiler.lora.errors import LoraError
from mochi_aot.compiler.lora.place import find_lora

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "place", "strength"),
    [
        ("style.safetensors", "style.safetensors", 1.0),
        ("style.safetensors:0.8", "style.safetensors", 0.8),
        ("style.safetensors:-1", "style.safetensors", -1.0),
        ("owner/name:0", "owner/name", 0.0),
        ("owner/name/file.safetensors@main:0.5", "owner/name/file.safetensors@main", 0.5),
        ("a:b.safetensors", "a:b.safetensors", 1.0),
        ("s3:style.safetensors:2", "s3:style.safetensors", 2.0),
    ],
)
def test_a_text_says_which_and_how_strongly(text: str, place: str, strength: float) -> None:
    assert parse_lora(text) == LoraChoice(place, strength)


def test_a_file_of_that_very_name_is_meant(tmp_path: Path) -> None:
    (tmp_path / "style:2").touch()
    assert parse_lora(f"{tmp_path}/style:2") == LoraChoice(f"{tmp_path}/style:2")


@pytest.mark.parametrize("text", ["style:nan", "style:inf", "style:101", "style:-1e9", ":0.5", ""])
def test_what_says_nothing(text: str) -> None:
    with pytest.raises(LoraError, match=f"lora '{text}'"):
        parse_lora(text)


def test_the_file_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(LoraError, match=r"has no one safetensors file that is the LoRA: .* there are none"):
        find_lora(str(tmp_path))
    (tmp_path / "style.safetensors").touch()
    assert find_lora(str(tmp_path)) == tmp_path / "style.safetensors"
    (tmp_path / "other.safetensors").touch()
    with pytest.raises(LoraError, match=r"there are other.safetensors, style.safetensors"):
        find_lora(str(tmp_path))
    (tmp_path / "adapter_model.safetensors").touch()
    assert find_lora(str(tmp_path)) == tmp_path / "adapter_model.safetensors"
    assert find_lora(f"{tmp_path}/none.safetensors") == tmp_path / "none.safetensors"  # whoever reads it says so


def test_what_the_hubs_cache_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, as tests are."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--owner--name"
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(COMMIT)
    for name in ("pytorch_lora_weights.safetensors", "other.safetensors"):
        (snapshot / name).touch()
    assert find_lora("owner/name") == snapshot / "pytorch_lora_weights.safetensors"
    assert find_lora("owner/name/other.safetensors@main") == snapshot / "other.safetensors"
    with pytest.raises(LoraError, match="owner/none is no file here, and the hub gives none: "):
        find_lora("owner/none")
