"""What is found of a checkpoint's licence, card and origin, in the layouts in which huggingface_hub leaves folders."""

from pathlib import Path

import pytest

from mochi_aot.artifacts.layout import MAX_NOTICE_BYTES, MAX_NOTICES
from mochi_aot.compiler.checkpoint import CheckpointError, open_checkpoint
from mochi_aot.compiler.checkpoint.notices import find_notices, find_origin
from mochi_aot.tools.training.shipped import SHAPES

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_trained_model_has_its_card_and_licence() -> None:
    checkpoint = open_checkpoint(SHAPES)
    assert checkpoint.notices == {"README.md": (SHAPES / "README.md").read_bytes()}
    assert checkpoint.origin["license"] == "apache-2.0" and not {"repository", "revision"} & checkpoint.origin.keys()


@pytest.mark.parametrize("layout", ["diffusers", "genmo"])
def test_both_layouts(layout: str, tmp_path: Path) -> None:
    """Files at the top, and the text encoder's; others stay, and so does what only looks like a licence."""
    import torch

    from mochi_aot.compiler.checkpoint.presets import TINY
    from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint

    root = tmp_path / "models--genmo--mochi-1-preview/snapshots" / COMMIT
    root.parent.mkdir(parents=True)
    write_checkpoint(root, TINY, layout, 0, torch.float32)
    texts = {"LICENSE": b"be kind", "NOTICE.txt": b"by us", "README.md": b"---\nlicense: other\n---\n# Card\n"}
    others = {"licenses.json": b"{}", "README.txt": b"no card", "text_encoder/LICENSE": b"T5"}
    for name, text in {**texts, **others}.items():
        (root / name).write_bytes(text)
    checkpoint = open_checkpoint(root)
    assert checkpoint.notices == {**texts, "text_encoder/LICENSE": b"T5"}
    expected = {"repository": "genmo/mochi-1-preview", "revision": COMMIT, "license": "other"}
    assert {name: checkpoint.origin.get(name) for name in expected} == expected


def test_a_folder_that_was_downloaded_to(tmp_path: Path) -> None:
    notes = tmp_path / ".cache/huggingface/download/vae"
    notes.mkdir(parents=True)
    (notes / "a.safetensors.metadata").write_text(f"{COMMIT}\netag\n1.5\n")
    assert find_origin(tmp_path, {}) == {"revision": COMMIT}
    (notes / "b.safetensors.metadata").write_text(f"{COMMIT[::-1]}\netag\n1.5\n")
    assert find_origin(tmp_path, {}) == {}  # of two commits: of none
    (notes / "b.safetensors.metadata").write_bytes(b"\xff" * 9)
    assert find_origin(tmp_path, {}) == {"revision": COMMIT}


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        (b"---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        (b"---\ntags: [x]\nlicense: 'mit'\n---\n", "mit"),
        (b"# Card\nlicense: mit\n", None),
        (b"---\n# no licence\n---\nlicense: mit\n", None),
        (b"---\nlicense: \xff\xff\n---\n", None),
    ],
)
def test_the_licence_in_a_card(card: bytes, licence: str | None, tmp_path: Path) -> None:
    assert find_origin(tmp_path, {"README.md": card}).get("license") == licence


def test_there_are_limits(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_bytes(b"x" * (MAX_NOTICE_BYTES + 1))
    with pytest.raises(CheckpointError, match="cannot read"):
        find_notices([("", tmp_path)])
    (tmp_path / "LICENSE").unlink()
    for index in range(MAX_NOTICES + 1):
        (tmp_path / f"LICENSE.{index}").touch()
    with pytest.raises(CheckpointError, match="at most 32"):
        find_notices([("", tmp_path)])
