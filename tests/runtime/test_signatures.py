"""Signatures against RFC 8032's vectors, and against keys and signatures that openssl and ssh-keygen make."""

import base64
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mochi_aot.artifacts.errors import MochiError
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.api import load
from mochi_aot.runtime.errors import InputFileError, SignatureError
from mochi_aot.runtime.signatures import (
    MAX_SIGNATURES,
    check_signatures,
    read_private_key,
    read_trusted_keys,
    require_signature,
    signatures,
    statement,
)
from mochi_aot.tools.bundle.signing import sign
from tests.artifacts import samples

# RFC 8032, 7.1, TEST 2: a secret key, its public key, a message and its signature.
SECRET = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
PUBLIC = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
SIGNED = (
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
# RFC 8410, 7 and 10.3: what stands before the 32 bytes of a private and of a public key, in DER.
PKCS8_HEAD, SPKI_HEAD = "302e020100300506032b657004220420", "302a300506032b6570032100"


def pem(label: str, der: str) -> str:
    return f"-----BEGIN {label}-----\n{base64.b64encode(bytes.fromhex(der)).decode()}\n-----END {label}-----\n"


def run(*words: str | Path) -> str:
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def bundle(bundle_path: Path) -> Bundle:
    return Bundle.open(bundle_path)


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    samples.write_bundle(tmp_path / "sample.bundle")
    return tmp_path / "sample.bundle"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "builder", "-f", tmp_path / "key")
    return tmp_path / "key"


def test_the_vector_of_the_rfc(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(pem("PRIVATE KEY", PKCS8_HEAD + SECRET))
    (tmp_path / "public").write_text(pem("PUBLIC KEY", SPKI_HEAD + PUBLIC))
    private = read_private_key(tmp_path / "secret")
    assert private.sign(b"\x72").hex() == SIGNED
    assert [one.raw.hex() for one in read_trusted_keys(tmp_path / "public")] == [PUBLIC]


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen here")
def test_openssh_keys_and_their_fingerprint(bundle: Bundle, key: Path) -> None:
    signer = sign(bundle, key)
    trusted = key.with_suffix(".pub")
    assert require_signature(bundle, trusted) == read_trusted_keys(trusted)
    shown = run("ssh-keygen", "-lf", trusted)
    assert signer.text in shown
    assert read_trusted_keys(trusted)[0].text == f"{shown.split()[1]} builder"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_openssl_makes_keys_and_verifies(bundle: Bundle, tmp_path: Path) -> None:
    secret, public = tmp_path / "secret.pem", tmp_path / "public.pem"
    run("openssl", "genpkey", "-algorithm", "ed25519", "-out", secret)
    run("openssl", "pkey", "-in", secret, "-pubout", "-out", public)
    signer = sign(bundle, secret)
    assert [one.raw for one in require_signature(bundle, public)] == [signer.raw]
    (tmp_path / "text").write_text(f"mochi-aot bundle signature 1\n{bundle.id}\n")
    signature = bundle.path / "signatures" / signer.fingerprint
    words = ["-pubin", "-inkey", public, "-rawin", "-in", tmp_path / "text", "-sigfile", signature]
    assert "Signature Verified Successfully" in run("openssl", "pkeyutl", "-verify", *words)


def test_an_encrypted_key_wants_its_password(bundle: Bundle, tmp_path: Path) -> None:
    run("openssl", "genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:fox", "-out", tmp_path / "k")
    with pytest.raises(InputFileError, match="encrypted"):
        sign(bundle, tmp_path / "k")
    with pytest.raises(InputFileError, match="its password"):
        sign(bundle, tmp_path / "k", lambda: b"goose")
    assert len(sign(bundle, tmp_path / "k", lambda: b"fox").raw) == 32


def test_several_keys_sign_and_each_is_enough(bundle: Bundle, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", tmp_path / name)
    made_before = Bundle.open(bundle.path).id
    for name in ("a", "b"):
        sign(bundle, tmp_path / name)
    assert Bundle.open(bundle.path).id == made_before
    lines = {name: (tmp_path / f"{name}.pub").read_text() for name in "abc"}
    trusted = tmp_path / "trusted"
    trusted.write_text("# who may build\n\n" + lines["c"] + "ssh-rsa AAAA old\n" + lines["b"])
    assert [one.comment for one in require_signature(bundle, trusted)] == ["b"]
    trusted.write_text(lines["c"])
    with pytest.raises(SignatureError, match="one of 1 trusted keys, and none of them has signed it"):
        require_signature(bundle, trusted)


def test_a_signature_is_of_one_bundle_and_one_key(bundle: Bundle, key: Path, tmp_path: Path) -> None:
    signer = sign(bundle, key)
    trusted = key.with_suffix(".pub")
    other = tmp_path / "other.bundle"
    samples.write_bundle(other, created_by="somebody else")
    shutil.copytree(bundle.path / "signatures", other / "signatures")
    with pytest.raises(SignatureError, match="is not of this bundle"):
        require_signature(Bundle.open(other), trusted)
    # Without the line that keeps signatures over bundles apart, the same key's signature counts for nothing.
    bare = read_private_key(key).sign(bundle.id.encode())
    (bundle.path / "signatures" / signer.fingerprint).write_bytes(bare)
    with pytest.raises(SignatureError, match="is not of this bundle"):
        require_signature(bundle, trusted)


def test_no_flipped_bit_of_a_signature_passes(bundle: Bundle, key: Path) -> None:
    signer = sign(bundle, key)
    data = (bundle.path / "signatures" / signer.fingerprint).read_bytes()
    for bit in range(len(data) * 8):
        changed = (int.from_bytes(data, "big") ^ (1 << bit)).to_bytes(len(data), "big")
        with pytest.raises(SignatureError):
            check_signatures(bundle.id, lambda _, data=changed: data, [signer], "b")  # type: ignore[misc]
    assert check_signatures(bundle.id, lambda _: data, [signer], "b") == [signer]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no Ed25519 key"),
        ("ssh-rsa AAAA me\n", "no Ed25519 key"),
        ("ssh-ed25519 AAAA me\n", "line 1: not the base64"),
        ("\nssh-ed25519 *\n", "line 2: not the base64"),
        ("restrict ssh-ed25519 AAAA\n", "line 1: expected `ssh-ed25519 KEY COMMENT`"),
        ("cert-authority ssh-ed25519 AAAA\n", "without options"),
        (pem("PRIVATE KEY", PKCS8_HEAD + SECRET), "expected public keys only, seen a PRIVATE KEY"),
        (pem("PUBLIC KEY", SPKI_HEAD + PUBLIC[2:]), "cannot be read"),
        ("x" * (1 << 20) + "x", "more than 1048576 bytes"),
    ],
)
def test_files_that_hold_no_keys(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(InputFileError, match=message):
        read_trusted_keys(tmp_path / "keys")


def test_a_key_in_der_length_but_of_another_type(tmp_path: Path) -> None:
    run("openssl", "genpkey", "-algorithm", "ed448", "-out", tmp_path / "k")
    with pytest.raises(InputFileError, match="Ed25519"):
        read_private_key(tmp_path / "k")
    (tmp_path / "none").write_bytes(b"\xff\xfe")
    with pytest.raises(InputFileError, match="as text"):
        read_private_key(tmp_path / "none")
    with pytest.raises(InputFileError, match="cannot read"):
        read_private_key(tmp_path / "absent")


def test_what_else_lies_among_signatures(bundle: Bundle, key: Path, tmp_path: Path) -> None:
    """A link, a pipe, a file of another size: an error where it is the trusted key's, and nothing is followed."""
    signer = sign(bundle, key)
    place, trusted = bundle.path / "signatures" / signer.fingerprint, key.with_suffix(".pub")
    data = place.read_bytes()
    (tmp_path / "elsewhere").write_bytes(data)
    place.unlink()
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SignatureError, match="is not of this bundle"):
        require_signature(bundle, trusted)
    place.unlink()
    subprocess.run(["mkfifo", str(place)], check=True)
    with pytest.raises(SignatureError):
        require_signature(bundle, trusted)
    place.unlink()
    place.write_bytes(data + b"\n")
    with pytest.raises(SignatureError, match="expected a file of 64 bytes"):
        signatures(bundle.path)
    place.write_bytes(data)
    (place.parent / "notes.txt").touch()
    with pytest.raises(SignatureError, match="signatures only"):
        signatures(bundle.path)
    assert require_signature(bundle, trusted)  # others' files are no trusted key's


def test_there_is_a_most_of_signatures(bundle: Bundle, key: Path) -> None:
    folder = bundle.path / "signatures"
    folder.mkdir()
    for index in range(MAX_SIGNATURES):
        (folder / hashlib.sha256(str(index).encode()).hexdigest()).write_bytes(bytes(64))
    with pytest.raises(SignatureError, match="which is the most"):
        sign(bundle, key)
    (folder / "x").touch()
    with pytest.raises(SignatureError, match="which is the most"):
        signatures(bundle.path)


def test_loading_asks_before_anything_runs(bundle: Bundle, key: Path) -> None:
    with pytest.raises(SignatureError, match="none of them has signed it"):
        load(bundle.path, require_signature=key.with_suffix(".pub"))
    with pytest.raises(SignatureError, match=f"expected the bundle {'0' * 64}"):
        load(bundle.path, expect_id="0" * 64)
    assert issubclass(SignatureError, MochiError)


def test_the_statement_names_what_it_is_for(bundle: Bundle) -> None:
    assert statement("ab") == b"mochi-aot bundle signature 1\nab\n"
    assert Ed25519PrivateKey.generate().sign(statement(bundle.id)) != b""
