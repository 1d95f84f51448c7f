import os
from pathlib import Path

import pytest

from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.json_config import JsonConfig, read_json


def test_fields_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"i": 3, "x": 0.5, "is": [1, 2], "xs": [1, 0.5]}')
    config = JsonConfig.read(path)
    assert config.integer("i") == 3
    assert config.integer("absent", 4) == 4
    assert config.number("x") == 0.5
    assert config.integers("is", ()) == (1, 2)
    assert config.numbers("xs", ()) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"config\.json is missing"),
        (b"", r"config\.json cannot be read as JSON"),
        (b"\xff\xfe", r"config\.json cannot be read as JSON"),
        (b"[1]", r"config\.json holds list, expected a JSON object"),
    ],
)
def test_a_file_that_is_no_object(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        JsonConfig.read(path)


def test_what_is_no_file_or_no_json_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(CheckpointError, match=r"fifo cannot be read as JSON: .*it is a FIFO, expected a file"):
        read_json(tmp_path / "fifo")
    (tmp_path / "deep").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="deep cannot be read as JSON"):
        read_json(tmp_path / "deep")
    monkeypatch.setattr("mochi_aot.compiler.checkpoint.json_config.MAX_JSON_BYTES", 2)
    (tmp_path / "long").write_text("{} ")
    with pytest.raises(CheckpointError, match="it has more than 2 bytes"):
        read_json(tmp_path / "long")
