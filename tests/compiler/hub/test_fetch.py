"""Checkpoints by their names on the hub, through huggingface_hub, from a server that speaks its protocol."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from mochi_aot.artifacts.errors import ExitCode, exit_code
from mochi_aot.compiler.api import default_output, make_inputs
from mochi_aot.compiler.checkpoint import CheckpointError
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.compiler.checkpoint.wanted import Wanted
from mochi_aot.compiler.hub.errors import HubError
from mochi_aot.compiler.hub.part import local_part
from mochi_aot.compiler.hub.place import local_checkpoint
from mochi_aot.compiler.job import Inputs, Progress
from mochi_aot.compiler.request import open_inputs
from tests.compiler.checkpoint.published import publish
from tests.compiler.hub.server import COMMIT, Hub, served

ID = "genmo/mochi-1-preview"
STEM = "diffusion_pytorch_model"
TEXT = {
    "text_encoder/config.json",
    "text_encoder/model.safetensors.index.json",
    *(f"text_encoder/model-{n:05d}-of-00004.safetensors" for n in range(1, 5)),
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
}
PLAIN = {
    "transformer/config.json",
    f"transformer/{STEM}.safetensors.index.json",
    *(f"transformer/{STEM}-{n:05d}-of-00005.safetensors" for n in range(1, 6)),
    "vae/config.json",
    f"vae/{STEM}.safetensors",
}
BF16 = {
    "transformer/config.json",
    f"transformer/{STEM}.safetensors.index.bf16.json",
    *(f"transformer/{STEM}.bf16-{n:05d}-of-00003.safetensors" for n in range(1, 4)),
    "vae/config.json",
    f"vae/{STEM}.bf16.safetensors",
}
GENMO = {"dit.safetensors", "decoder.safetensors", "encoder.safetensors"}
# Small files that tell which weights there are, read before it is known which are needed.
INDEXES = {
    f"transformer/{STEM}.safetensors.index.json",
    f"transformer/{STEM}.safetensors.index.bf16.json",
    "text_encoder/model.safetensors.index.json",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    for layout in ("diffusers", "genmo"):
        write_checkpoint(folder / layout, TINY, layout)
    return publish(folder / "diffusers", folder / "genmo", folder / "repository")


@pytest.fixture
def hub(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub, online, with an empty cache and no token."""
    with served(Hub(ID, root)) as hub:
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


class Told(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.phases: list[str] = []
        self.counts: list[tuple[int, int]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def phase(self, text: str) -> None:
        self.phases.append(text)

    def fetched(self, done: int, total: int) -> None:
        self.counts.append((done, total))


def fetch(told: Progress | None = None, revision: str | None = None, **wanted: str | Path | None) -> Path:
    path = local_checkpoint(ID, revision, Wanted(**wanted), told or Progress())  # type: ignore[arg-type]
    assert path is not None
    return path


@pytest.mark.parametrize(
    ("wanted", "files"),
    [
        ({}, PLAIN | TEXT | {"model_index.json"}),
        ({"variant": "bf16"}, BF16 | TEXT | {"model_index.json"}),
        ({"layout": "genmo"}, GENMO | TEXT),
        ({"layout": "genmo", "transformer": Path("dit.fast.safetensors")}, (GENMO | TEXT) - {"dit.safetensors"}),
        ({"text_encoder": Path("t5"), "tokenizer": Path("t5")}, PLAIN | {"model_index.json"}),
    ],
)
def test_only_what_is_needed_is_fetched(hub: Hub, wanted: dict[str, str], files: set[str]) -> None:
    path = fetch(**wanted)
    assert set(hub.fetched) - INDEXES == (files | {"README.md"}) - INDEXES
    assert len(hub.fetched) == len(set(hub.fetched))
    held = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert held - INDEXES == (files | {"README.md"}) - INDEXES


def test_it_opens_and_says_what_was_taken(hub: Hub) -> None:
    told = Told()
    checkpoint = open_inputs(Inputs(ID, variant="bf16"), told)
    assert checkpoint.layout == "diffusers"
    assert checkpoint.origin == {
        "repository": ID,
        "revision": COMMIT,
        "license": "apache-2.0",
        "dtype": "transformer bfloat16, vae bfloat16, text_encoder float32",
        "variant": "transformer bf16, vae bf16, text_encoder none",
    }
    assert told.phases == [f"looking up {ID} on the hub", f"fetching {ID}"]
    assert told.counts[-1][0] == told.counts[-1][1] > 1e6
    assert [done for done, _ in told.counts] == sorted(done for done, _ in told.counts)


def test_a_second_time_nothing_is_fetched_and_offline_nothing_is_asked(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fetch(layout="genmo")
    fetched = len(hub.fetched)
    assert fetch(layout="genmo") == first and len(hub.fetched) == fetched
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    told = Told()
    assert fetch(told, layout="genmo") == first and len(hub.fetched) == fetched
    (note,) = told.notes
    assert (
        note.startswith(f"{ID} is no path of this machine, and the hub cannot be reached (") and "offline mode" in note
    )
    assert note.endswith(f"; {first.parents[1]} is used")
    assert open_inputs(Inputs(ID, layout="genmo"), Progress()).layout == "genmo"
    with pytest.raises(CheckpointError, match=r"has no model_index\.json: it is not in Diffusers' layout"):
        open_inputs(Inputs(ID, layout="diffusers"), Progress())  # of which nothing was fetched


def test_the_folder_of_the_cache_is_a_checkpoint_too(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = fetch(layout="genmo", revision="main")
    cache = snapshot.parents[1]
    assert cache.name == "models--genmo--mochi-1-preview"
    for revision in (None, "main", COMMIT, COMMIT[:7]):
        assert local_checkpoint(str(cache), revision, Wanted(), Progress()) == snapshot
    with pytest.raises(CheckpointError, match=f"does not tell which commit is revision v2, it holds {COMMIT}: name"):
        local_checkpoint(str(cache), "v2", Wanted(), Progress())


def test_a_revision_is_of_the_hub(hub: Hub) -> None:
    other = COMMIT[::-1]
    hub.revisions["v2"] = other
    assert fetch(layout="genmo", revision="v2").name == other
    with pytest.raises(CheckpointError, match=f"^{ID} has no revision v3$"):
        fetch(layout="genmo", revision="v3")
    with pytest.raises(CheckpointError, match="has no revisions: --revision is for repositories of the hub"):
        local_checkpoint(str(hub.root), "v2", Wanted(), Progress())


def test_a_token_is_sent_and_its_absence_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "hf_secret"
    missing = f"^{ID} is neither a path of this machine nor a repository of the hub; if it is private, log in with "
    with pytest.raises(CheckpointError, match=missing) as error:
        fetch(layout="genmo")
    assert exit_code(error.value) == ExitCode.INPUT
    hub.gated = True
    gated = f"^{ID} is gated: accept its licence at https://huggingface.co/{ID}, then log in with hf auth login, or set"
    with pytest.raises(CheckpointError, match=gated):
        fetch(layout="genmo")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch(layout="genmo").name == COMMIT


def test_a_fetch_that_breaks_off_goes_on(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where it was, in the same call: the rest of the file is asked for, and the whole file is right."""
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    hub.cut["dit.safetensors"] = 1_000_000
    path = fetch(layout="genmo")
    assert [(name, asked) for name, asked in hub.ranges if asked != "bytes=0-"] == [
        ("dit.safetensors", f"bytes={1_000_000 // (1 << 16) * (1 << 16)}-")
    ]
    (told,) = [record.getMessage() for record in caplog.records if record.name == "mochi_aot"]
    assert "Trying to resume download" in told and "\n" not in told and capfd.readouterr().err == ""
    assert (path / "dit.safetensors").read_bytes() == (hub.root / "dit.safetensors").read_bytes()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_a_hub_that_is_out_of_reach_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    message = f"^{ID} is no path of this machine, and the hub cannot be reached"
    with pytest.raises(HubError, match=message) as error:
        fetch()
    assert exit_code(error.value) == ExitCode.SYSTEM


def test_a_hub_that_fails_is_told(hub: Hub) -> None:
    hub.status = 500
    with pytest.raises(HubError, match=f"^{ID} is no path of this machine, and the hub cannot be reached .*500"):
        fetch()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"variant": "fp16"}, f"{ID} has no weights of variant fp16 in diffusers layout"),
        ({"variant": "bf16", "layout": "genmo"}, f"{ID} has no weights of variant bf16 in genmo layout"),
    ],
)
def test_what_is_not_there_is_told_before_anything_is_fetched(hub: Hub, wanted: dict[str, str], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        fetch(**wanted)
    assert set(hub.fetched) <= INDEXES


@pytest.mark.parametrize(
    ("part", "name", "place", "files"),
    [
        ("transformer", ID, "transformer", {name for name in PLAIN if name.startswith("transformer/")}),
        ("transformer", f"{ID}/dit.safetensors@main", "dit.safetensors", {"dit.safetensors"}),
        ("vae", f"{ID}/vae/{STEM}.bf16.safetensors", f"vae/{STEM}.bf16.safetensors", {"vae/config.json"}),
        ("text_encoder", f"{ID}/text_encoder/", "text_encoder", TEXT),
        ("tokenizer", ID, "tokenizer", {name for name in TEXT if name.startswith("tokenizer/")}),
    ],
    ids=["of its folder", "a file", "a file and its sizes", "a folder", "tokenizer"],
)
def test_a_part_of_the_hub(hub: Hub, part: str, name: str, place: str, files: set[str]) -> None:
    told = Told()
    found = local_part(part, Path(name), None, told)
    assert found is not None and found.exists()
    root = Path(str(found).removesuffix(place))
    assert root.name == COMMIT
    assert set(hub.fetched) - INDEXES == (files | ({place} if found.is_file() else set())) - INDEXES
    assert told.phases == [f"looking up {ID} on the hub", f"fetching {ID}"]
    hub.fetched.clear()
    assert local_part(part, Path(name), None, Progress()) == found and not hub.fetched
    assert local_part(part, found, None, Progress()) == found  # a path is itself


def test_parts_of_the_hub_are_a_checkpoint(hub: Hub) -> None:
    """A variant is of each of them; each is opened as from a folder."""
    inputs = make_inputs(None, f"{ID}/text_encoder", ID, ID, None, None, "bf16")
    checkpoint = open_inputs(inputs, Progress())
    assert checkpoint.origin["variant"] == "transformer bf16, vae bf16, text_encoder none"
    assert {name for name in hub.fetched if name.startswith(("transformer/", "vae/"))} - INDEXES == BF16 - INDEXES
    assert default_output(f"{ID}/split/dit.fp8.safetensors@main") == Path("dit.fp8.bundle")


@pytest.mark.parametrize(
    ("part", "name", "message"),
    [
        (
            "transformer",
            f"{ID}/split",
            "has no config.json, with weights beside it, in split, it has .*: name a file or",
        ),
        ("tokenizer", f"{ID}/vae", r"has no tokenizer in vae, it has"),
        ("vae", "genmo/other/vae.safetensors", "genmo/other is neither a path of this machine nor a repository"),
        ("vae", f"{ID}/vae@v9", f"{ID} has no revision v9"),
    ],
)
def test_a_part_that_the_hub_has_not(hub: Hub, part: str, name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        local_part(part, Path(name), None, Progress())
    assert not hub.fetched


def test_a_part_of_the_cache_where_the_hub_is_out_of_reach(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    found = local_part("vae", Path(f"{ID}/vae"), "bf16", Progress())
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    told = Told()
    assert local_part("vae", Path(f"{ID}/vae"), "bf16", told) == found
    assert len(told.notes) == 1 and "is used" in told.notes[0]
