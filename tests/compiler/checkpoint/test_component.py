import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mochi_aot.compiler.checkpoint.component import Component, find_weights
from mochi_aot.compiler.checkpoint.errors import CheckpointError

STEM = ("model",)


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def _index(path: Path, *shards: str) -> None:
    path.write_text(json.dumps({"weight_map": {f"key{number}": shard for number, shard in enumerate(shards)}}))


def _found(folder: Path) -> list[str]:
    return list(find_weights(folder, STEM).taken.files)


def test_a_single_file(tmp_path: Path) -> None:
    _touch(tmp_path, "model.safetensors", "model.bf16.safetensors", "config.json")
    assert _found(tmp_path) == ["model.safetensors"]


def test_an_index_names_its_shards(tmp_path: Path) -> None:
    _touch(tmp_path, "a.safetensors", "b.safetensors")
    _index(tmp_path / "model.safetensors.index.json", "b.safetensors", "a.safetensors", "b.safetensors")
    assert _found(tmp_path) == ["a.safetensors", "b.safetensors"]


def test_the_only_variant_is_taken(tmp_path: Path) -> None:
    _touch(tmp_path, "model.bf16.safetensors")
    assert _found(tmp_path) == ["model.bf16.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors.index.bf16.json", "model.bf16.safetensors.index.json"])
def test_the_only_sharded_variant_is_taken(name: str, tmp_path: Path) -> None:
    shards = ["model.bf16-00001-of-00002.safetensors", "model.bf16-00002-of-00002.safetensors"]
    _touch(tmp_path, *shards)
    _index(tmp_path / name, *shards)
    assert _found(tmp_path) == shards


def test_two_variants_are_ambiguous(tmp_path: Path) -> None:
    _touch(tmp_path, "model.bf16.safetensors", "model.fp16.safetensors")
    with pytest.raises(CheckpointError, match=r"several variants.*model\.bf16\.safetensors, model\.fp16"):
        find_weights(tmp_path, STEM)


def test_no_weights_says_what_is_there(tmp_path: Path) -> None:
    _touch(tmp_path, "tf_model.h5", "config.json")
    with pytest.raises(CheckpointError, match=r"holds no model\.safetensors.*it holds config\.json, tf_model\.h5"):
        find_weights(tmp_path, STEM)


@pytest.mark.parametrize("weight_map", [None, {}, [], {"a": 1}, {"a": "../other/model.safetensors"}])
def test_an_index_may_only_name_files_beside_it(weight_map: object, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError, match="weight_map must map keys to names of files"):
        find_weights(tmp_path, STEM)


def test_tensors_of_all_files(tmp_path: Path) -> None:
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    save_file({"x": torch.zeros(2)}, paths[0])
    save_file({"y": torch.ones(3, 1)}, paths[1])
    component = Component("text", paths)
    assert component.shapes() == {"x": (2,), "y": (3, 1)}
    assert torch.equal(component.file("y").read_rows("y", 1, 3), torch.ones(2, 1))


def test_a_tensor_in_two_files(tmp_path: Path) -> None:
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path in paths:
        save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"x is in .*a\.safetensors and in .*b\.safetensors"):
        Component("text", paths)


def test_an_index_without_its_shards_hides_nothing(tmp_path: Path) -> None:
    """Nor one that is a pointer of Git LFS, or no JSON."""
    _touch(tmp_path, "model.bf16-00001-of-00001.safetensors")
    _index(tmp_path / "model.safetensors.index.bf16.json", "model.bf16-00001-of-00001.safetensors")
    for text in ('{"weight_map": {"a": "gone.safetensors"}}', "version https://git-lfs.github.com/spec/v1", "{"):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        assert _found(tmp_path) == ["model.bf16-00001-of-00001.safetensors"]


def test_the_variant_that_is_wanted_or_else_the_plain_one(tmp_path: Path) -> None:
    _touch(tmp_path, "model.safetensors", "model.bf16.safetensors", "model.fp16.safetensors")
    for variant, expected in ((None, ""), ("bf16", "bf16"), ("fp16", "fp16"), ("fp8", "")):
        choice = find_weights(tmp_path, STEM, variant)
        assert choice.taken.variant == expected
        assert {other.variant for other in choice.others} == {"", "bf16", "fp16"} - {expected}
