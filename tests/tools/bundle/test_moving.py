"""Pushing and pulling with real servers: only what is lacking moves, cuts are gone on from, nothing wrong appears."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from mochi_aot.artifacts.errors import BundleError, BundleExistsError
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.errors import SignatureError
from mochi_aot.tools.bundle import pulling
from mochi_aot.tools.bundle.local import LocalStore, bundles_in
from mochi_aot.tools.bundle.oci import parse_reference
from mochi_aot.tools.bundle.places import open_sink, open_source
from mochi_aot.tools.bundle.pulling import Pulled, Wanted, pull
from mochi_aot.tools.bundle.pushing import push
from mochi_aot.tools.bundle.remote import RemoteError, UrlError
from mochi_aot.tools.commands.bundle import main
from mochi_aot.tools.commands.run import main as run_command
from tests.tools.bundle.made import SIGNATURE, silent, tree, write_bundle
from tests.tools.bundle.servers import FileHandler, FileState, RegistryHandler, RegistryState, served


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_bundle(tmp_path_factory.mktemp("made") / "b"))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same but for one weight of 200 kB, and all in one file."""
    return Bundle.open(write_bundle(tmp_path_factory.mktemp("tuned") / "b", (0, 7), file_bytes=10_000_000))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "FIRST_WAIT", 0.0)


@pytest.fixture
def web(bundle: Bundle, tmp_path: Path) -> Iterator[tuple[str, FileState]]:
    """A copy of the bundle behind a web server."""
    copy(bundle, tmp_path / "www/b")
    state = FileState(tmp_path / "www")
    with served(FileHandler, state) as host:
        yield f"http://{host}/b", state


@pytest.fixture
def registry() -> Iterator[tuple[str, RegistryState]]:
    state = RegistryState()
    with served(RegistryHandler, state) as host:
        yield f"oci://{host}/me/videos", state


def copy(bundle: Bundle, folder: Path) -> None:
    for path, data in tree(bundle.path).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def pulled(url: str, output: Path, *have: Path, force: bool = False, wanted: Wanted | None = None) -> Pulled:
    local = LocalStore(bundle for folder in have for bundle in bundles_in(folder))
    return pull(open_source(url), url, output, force, wanted or Wanted(), local, silent)


def sent(bundle: Bundle, url: str, force: bool = False) -> int:
    return push(bundle, open_sink(url), force, silent)


def file_bytes(bundle: Bundle) -> int:
    return sum(file.nbytes for file in bundle.manifest.files)


def command(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


# ---- a web server


def test_a_folder_that_is_served(web: tuple[str, FileState], bundle: Bundle, tmp_path: Path) -> None:
    """Signatures come along where their names are known: a web server lists nothing."""
    url, state = web
    got = pulled(url, tmp_path / "b")
    assert (got.moved, got.local) == (file_bytes(bundle), 0)
    wanted = tree(bundle.path)
    wanted.pop(SIGNATURE)
    assert tree(tmp_path / "b") == wanted
    assert state.sent == sum(map(len, wanted.values()))
    assert Bundle.open(tmp_path / "b").id == bundle.id
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "www"]


def test_only_what_is_lacking_moves(web: tuple[str, FileState], bundle: Bundle, tuned: Bundle, tmp_path: Path) -> None:
    """Whole files are linked, and of a file that is otherwise cut the shards that are here are taken."""
    url, state = web
    again = pulled(url, tmp_path / "b", bundle.path)
    assert (again.moved, again.local) == (0, file_bytes(bundle))
    copy(tuned, state.folder / "tuned")
    got = pulled(url + "/../tuned", tmp_path / "t", bundle.path.parent)
    assert Bundle.open(tmp_path / "t").id == tuned.id
    Bundle.open(tmp_path / "t").verify()
    assert 200_000 <= got.moved < 200_000 + 8 * 4096  # the weight that is new, and zeros between shards


def test_a_broken_line_is_gone_on_from(web: tuple[str, FileState], bundle: Bundle, tmp_path: Path) -> None:
    url, state = web
    state.cut = 30_000
    assert pulled(url, tmp_path / "b").moved == file_bytes(bundle)
    assert state.sent < file_bytes(bundle) + 10_000  # the manifest besides: no byte came twice
    Bundle.open(tmp_path / "b").verify()


def test_a_server_without_ranges(web: tuple[str, FileState], bundle: Bundle, tmp_path: Path) -> None:
    """What it sends again is passed over; what there is stays."""
    url, state = web
    state.ranges = False
    folder = tmp_path / ".b.pull/weights"
    folder.mkdir(parents=True, mode=0o700)
    folder.parent.chmod(0o700)
    first = bundle.manifest.files[0].path
    (tmp_path / f".b.pull/{first}.part").write_bytes((bundle.path / first).read_bytes()[:150_000])
    assert pulled(url, tmp_path / "b").moved == file_bytes(bundle) - 150_000
    Bundle.open(tmp_path / "b").verify()


def test_a_server_that_fails_for_a_while_and_for_good(
    web: tuple[str, FileState], bundle: Bundle, tmp_path: Path
) -> None:
    url, state = web
    source = open_source(url)
    manifest = source.manifest()
    source.manifest = lambda: manifest  # type: ignore[method-assign]
    state.failures = pulling.RETRIES
    pull(source, url, tmp_path / "b", False, Wanted(), LocalStore(), silent)
    state.failures = pulling.RETRIES + 1
    with pytest.raises(RemoteError, match="503"):
        pull(source, url, tmp_path / "c", False, Wanted(), LocalStore(), silent)
    assert not (tmp_path / "c").exists()
    with pytest.raises(RemoteError):
        pulled("http://127.0.0.1:9/b", tmp_path / "c")
    with pytest.raises(BundleError, match="no bundle is there"):
        pulled(url + "x", tmp_path / "c")


def test_wrong_bytes_never_appear(web: tuple[str, FileState], bundle: Bundle, tmp_path: Path) -> None:
    """Of the file that is wrong, what is right stays: when the server has been put right, only the rest moves."""
    url, state = web
    file = next(file for file in bundle.manifest.files if file.path.startswith("weights/"))
    place = state.folder / "b" / file.path
    data = place.read_bytes()
    for wrong in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1], b""):
        place.write_bytes(wrong)
        with pytest.raises((BundleError, RemoteError)):
            pulled(url, tmp_path / "b")
        assert not (tmp_path / "b").exists()
    place.write_bytes(data)
    assert pulled(url, tmp_path / "b").moved < file_bytes(bundle) + 1
    Bundle.open(tmp_path / "b").verify()


def test_parts_that_were_damaged_or_planted(web: tuple[str, FileState], bundle: Bundle, tmp_path: Path) -> None:
    """Every byte that a stopped pull has left is hashed again; a folder that others can write to is not taken."""
    url, _ = web
    folder = tmp_path / ".b.pull"
    for file in bundle.manifest.files:
        place = folder / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(bytes(file.nbytes))
        place.with_name(place.name + ".part").write_bytes(np.random.default_rng(0).bytes(file.nbytes + 9))
    folder.chmod(0o777)
    with pytest.raises(BundleError, match="not a folder of this user alone"):
        pulled(url, tmp_path / "b")
    folder.chmod(0o700)
    assert pulled(url, tmp_path / "b").moved == file_bytes(bundle)
    Bundle.open(tmp_path / "b").verify()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".c.pull").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError):
        pulled(url, tmp_path / "c")


def test_local_bytes_that_are_wrong_are_pulled(web: tuple[str, FileState], bundle: Bundle, tmp_path: Path) -> None:
    url, _ = web
    copy(bundle, tmp_path / "mine")
    for place in (tmp_path / "mine/weights").iterdir():
        place.write_bytes(b"\1" + place.read_bytes()[1:])
    got = pulled(url, tmp_path / "b", tmp_path / "mine")
    Bundle.open(tmp_path / "b").verify()
    assert got.moved > 700_000


def test_a_bundle_is_replaced_only_if_asked(
    web: tuple[str, FileState], bundle: Bundle, tuned: Bundle, tmp_path: Path
) -> None:
    url, _ = web
    copy(tuned, tmp_path / "b")
    with pytest.raises(BundleExistsError):
        pulled(url, tmp_path / "b")
    done = command("pull", url, "-o", tmp_path / "b", "--force")
    assert done.exit_code == 0, done.output
    moved = float(done.stdout.split(", ")[1].split()[0])
    assert Bundle.open(tmp_path / "b").id == bundle.id and 200 <= moved < 240  # kB: the old one's shards are used


def test_who_signed_it_is_asked_first(web: tuple[str, FileState], bundle: Bundle, tmp_path: Path) -> None:
    url, state = web
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", tmp_path / "k"], check=True)
    words = ["pull", url, "-o", tmp_path / "b", "--require-signature", tmp_path / "k.pub"]
    done = command(*words)
    assert done.exit_code == 3 and "none of them has signed it" in done.stderr
    assert [path for path in state.requests if "weights" in path or "programs" in path] == []
    command("sign", state.folder / "b", "--key", tmp_path / "k")
    done = command(*words)
    assert done.exit_code == 0 and done.stdout.endswith(" me\n"), done.output
    assert command("verify", tmp_path / "b", "--trusted", tmp_path / "k.pub").exit_code == 0
    with pytest.raises(SignatureError, match="expected the bundle ff"):
        pulled(url, tmp_path / "c", wanted=Wanted("ff"))
    assert command("pull", url, "-o", tmp_path / "c", "--expect-id", bundle.id).exit_code == 0


def test_two_pulls_to_one_place(web: tuple[str, FileState], tmp_path: Path) -> None:
    url, _ = web
    with (
        pulling._partial_folder(tmp_path / "b"),
        pytest.raises(BundleExistsError, match="is at work"),
    ):
        pulled(url, tmp_path / "b")
    pulled(url, tmp_path / "b")


SLOW = """
import sys, time
from mochi_aot.tools.bundle import contents, pulling
from mochi_aot.tools.commands.bundle import main
from mochi_aot.tools.commands.run import main as run_command
read = pulling._Fetch._fetched
def slowly(*arguments):
    for block in read(*arguments):
        for start in range(0, len(block), 20000):
            yield block[start:start + 20000]
            time.sleep(0.02)
pulling._Fetch._fetched = slowly
main(sys.argv[1:])
"""


def test_kills_at_any_moment(web: tuple[str, FileState], bundle: Bundle, tmp_path: Path) -> None:
    """SIGKILL while it pulls, five times: nothing appears, and the last one has little to do."""
    url, state = web
    words = [sys.executable, "-c", SLOW, "pull", url, "-o", str(tmp_path / "b")]
    for number in range(5):
        before = state.sent
        with subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as child:
            while state.sent == before and child.poll() is None:
                time.sleep(0.01)
            while not list(tmp_path.glob(".b.pull/*/*")) and child.poll() is None:  # what was sent may be the manifest
                time.sleep(0.01)
            time.sleep(0.06 * number)
            child.send_signal(signal.SIGKILL if number % 2 == 0 else signal.SIGTERM)
        assert child.returncode == (-9 if number % 2 == 0 else 143)
        assert not (tmp_path / "b").exists()
        assert sorted(path.name for path in tmp_path.iterdir()) == [".b.pull", "www"]
    got = pulled(url, tmp_path / "b")
    assert 0 < got.moved < file_bytes(bundle)
    Bundle.open(tmp_path / "b").verify()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "www"]


# ---- what fsspec knows


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """moto's server of S3, and a bucket in it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    before = {name: os.environ.get(name) for name in given}
    os.environ |= given
    try:
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket"
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        server.stop()


@pytest.fixture(params=["file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A URL in which bundles can be put."""
    if request.param == "s3":
        return str(request.getfixturevalue("s3")) + f"/{tmp_path.name}"
    if request.param == "file":
        return (tmp_path / "store").as_uri()
    return f"memory://{tmp_path.name}"


def test_to_a_store_and_back(store: str, bundle: Bundle, tuned: Bundle, tmp_path: Path) -> None:
    url = f"{store}/one"
    assert sent(bundle, url) == file_bytes(bundle)
    assert pulled(url, tmp_path / "b").moved == file_bytes(bundle)
    assert tree(tmp_path / "b") == tree(bundle.path)
    tokenizer = next(file.nbytes for file in bundle.manifest.files if file.path.startswith("tokenizer"))
    assert sent(bundle, url) == tokenizer  # the one file whose name says nothing of what is in it
    with pytest.raises(BundleExistsError):
        sent(tuned, url)
    sent(tuned, url, force=True)
    assert pulled(url, tmp_path / "t", tmp_path).contents.id == tuned.id
    fsspec.open(f"{store}/notes.txt", "wb").open().close()  # a file beside bundles is none
    assert sent(bundle, f"{store}/two") == tokenizer  # the server copies the others from beside it
    pulled(f"{store}/two", tmp_path / "c")
    Bundle.open(tmp_path / "c").verify()


def test_a_damaged_neighbour_is_not_copied(bundle: Bundle, tmp_path: Path) -> None:
    """Its file has the right name and size. A push over what is damaged itself mends it."""
    url = (tmp_path / "store/one").as_uri()
    sent(bundle, url)
    largest = max((tmp_path / "store/one/weights").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    tokenizer = next(file.nbytes for file in bundle.manifest.files if file.path.startswith("tokenizer"))
    assert sent(bundle, (tmp_path / "store/two").as_uri()) == tokenizer + len(data)
    Bundle.open(tmp_path / "store/two").verify()
    assert sent(bundle, url) == tokenizer  # by now a neighbour has it whole
    Bundle.open(tmp_path / "store/one").verify()


def test_a_store_without_the_bundle(store: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle is there"):
        pulled(f"{store}/none", tmp_path / "b")
    assert not list(tmp_path.glob("b")) and not list(tmp_path.glob(".b.pull"))


def test_a_push_that_is_stopped_leaves_no_bundle(bundle: Bundle, tmp_path: Path) -> None:
    """And no half of a file; the next one sends what is left."""
    url, seen = (tmp_path / "store/b").as_uri(), 0

    def stop(nbytes: int) -> None:
        nonlocal seen
        seen += nbytes
        if seen > 500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push(bundle, open_sink(url), False, stop)
    sizes = {file.path: file.nbytes for file in bundle.manifest.files}
    there = tree(tmp_path / "store/b")
    assert there and all(len(data) == sizes[path] for path, data in there.items())
    with pytest.raises(BundleError, match="no bundle is there"):
        pulled(url, tmp_path / "b")
    assert sent(bundle, url) < file_bytes(bundle)
    pulled(url, tmp_path / "b")


def test_a_damaged_bundle_is_not_pushed(bundle: Bundle, registry: tuple[str, RegistryState], tmp_path: Path) -> None:
    copy(bundle, tmp_path / "b")
    place = next((tmp_path / "b/weights").iterdir())
    place.write_bytes(place.read_bytes()[:-1] + b"\7")
    for url in ((tmp_path / "store/b").as_uri(), f"{registry[0]}:v1"):
        with pytest.raises(BundleError, match=r"do not match their hash|expected zeros"):
            sent(Bundle.open(tmp_path / "b"), url)
    assert "manifest.msgpack" not in tree(tmp_path / "store") and registry[1].manifests == {}


# ---- a registry


def test_to_a_registry_and_back(
    registry: tuple[str, RegistryState], bundle: Bundle, tuned: Bundle, tmp_path: Path
) -> None:
    name, state = registry
    assert sent(bundle, f"{name}:v1") == file_bytes(bundle)
    state.cut = 50_000
    assert pulled(f"{name}:v1", tmp_path / "b").moved == file_bytes(bundle)
    assert tree(tmp_path / "b") == tree(bundle.path)
    assert sent(bundle, f"{name}:v1") == 0
    before = state.received
    weights = sum(f.nbytes for f in tuned.manifest.files if f.path.startswith("weights/"))
    assert sent(tuned, f"{name}:v2") == weights  # one file; program and tokenizer are there
    assert state.received - before < weights + 10_000
    with pytest.raises(BundleExistsError):
        sent(tuned, f"{name}:v1")
    manifest = json.loads(state.manifests["v1"])
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json" and manifest["schemaVersion"] == 2
    digest = next(key for key, data in state.manifests.items() if key != "v2" and data == state.manifests["v2"])
    assert pulled(f"{name}@{digest}", tmp_path / "t", bundle.path).contents.id == tuned.id
    with pytest.raises(BundleError, match="no bundle is there"):
        pulled(f"{name}:v3", tmp_path / "c")


def test_a_registry_that_wants_a_password(
    registry: tuple[str, RegistryState], bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, state = registry
    state.password = base64.b64encode(b"me:secret").decode()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(RemoteError, match="401"):
        sent(bundle, f"{name}:v1")
    entry = {"auths": {f"127.0.0.1:{state.port}": {"auth": state.password}}}
    (tmp_path / "config.json").write_text(json.dumps(entry))
    assert sent(bundle, f"{name}:v1") == file_bytes(bundle)
    assert pulled(f"{name}:v1", tmp_path / "b").moved == file_bytes(bundle)


def test_a_registry_that_lies(registry: tuple[str, RegistryState], bundle: Bundle, tmp_path: Path) -> None:
    name, state = registry
    sent(bundle, f"{name}:v1")
    honest = dict(state.manifests)
    layers = json.loads(honest["v1"])["layers"]
    changes: list[object] = [
        b"{}",
        b"[" * 100_000,
        b"\xff",
        {"layers": [{**layers[0], "digest": "sha256:../../x"}]},
        {"layers": [{**layers[0], "size": "9"}]},
        {"layers": layers[:-1]},
        {"layers": [{**layer, "size": layer["size"] + 1} for layer in layers]},
        {"layers": [{**layer, "digest": layers[0]["digest"]} for layer in layers]},
    ]
    for change in changes:
        state.manifests["v1"] = change if isinstance(change, bytes) else json.dumps(change).encode()
        with pytest.raises(BundleError):
            pulled(f"{name}:v1", tmp_path / "b")
        assert not (tmp_path / "b").exists()
    digest = next(key for key in honest if key != "v1")
    state.manifests[digest] = honest["v1"].replace(b"mochi", b"mocha", 1)
    with pytest.raises(BundleError, match="seen sha256"):
        pulled(f"{name}@{digest}", tmp_path / "b")


@pytest.mark.parametrize(
    "url",
    [
        "mochi.bundle",
        "://x",
        "oci://host",
        "oci://host/name",
        "oci://host/Name:tag",
        "oci://host/a/../b:t",
        "oci://h/n@x",
        "nosuch://x/y",
        "file://",
        "simplecache::file:///x",
    ],
)
def test_what_is_no_url(url: str, tmp_path: Path) -> None:
    with pytest.raises(UrlError):
        open_source(url)
    assert command("pull", url, "-o", tmp_path / "b").exit_code == 2


def test_names_in_registries() -> None:
    at = "sha256:" + "0" * 64
    assert parse_reference("ghcr.io/me/mochi-1:v1").base == "https://ghcr.io/v2/me/mochi-1"
    assert parse_reference(f"localhost:5000/m@{at}").base == "http://localhost:5000/v2/m"
    assert str(parse_reference(f"h/m@{at}")) == f"oci://h/m@{at}"


def test_nothing_is_pushed_by_http(bundle: Bundle) -> None:
    done = command("push", bundle.path, "https://host/b")
    assert done.exit_code == 2 and "nothing can be pushed by http" in done.stderr


def test_a_file_system_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, bundle: Bundle, tmp_path: Path) -> None:
    def absent(*arguments: object, **named: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    done = command("pull", "s3://bucket/b", "-o", tmp_path / "b")
    assert done.exit_code == 5 and "Install s3fs to access S3" in done.stderr


@pytest.mark.parametrize("url", ["s3://bucket/b", "https://host/b", "oci://host/name:tag", "memory://b"])
def test_a_run_of_a_url_says_to_pull_it(url: str) -> None:
    done = CliRunner().invoke(run_command, [url, "--prompt", "fox"])
    assert done.exit_code == 2 and "mochi-bundle pull URL -o BUNDLE" in done.stderr
