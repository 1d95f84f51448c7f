"""What made a bundle, as CycloneDX 1.6 JSON (https://cyclonedx.org/docs/1.6/json/): packages, compiler, checkpoint.

Nothing in it depends on the time or the place where it is written: the same bundle gives the same bytes.
"""

import json
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.artifacts.errors import os_errors
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Manifest
from mochi_aot.runtime.paths import check_writable

# Of what `versions` in a manifest names, the licences by SPDX's identifiers: mochi-aot's by LICENSE, the others by
# their own packages' metadata (ttnn: LICENSE of tt-metal; Python: its license).
LICENCES = {
    "mochi-aot": "Apache-2.0",
    "python": "PSF-2.0",
    "torch": "BSD-3-Clause",
    "transformers": "Apache-2.0",
    "ttnn": "Apache-2.0",
}
_SPACE = uuid.UUID("6c7d1f0e-6f5b-5a49-9f0a-1d8f6f7b6a10")  # of serial numbers, which are of bundles' ids


def write_sbom(bundle: Bundle, path: Path, force: bool) -> None:
    """Write what made a bundle to a file, whole or not at all. Raise OutputError for a place that is taken."""
    check_writable(path, force)
    with os_errors(f"write {path}"), replacing(path) as place:
        place.write_text(json.dumps(sbom(bundle), indent=2) + "\n", encoding="utf-8")


def sbom(bundle: Bundle) -> dict[str, Any]:
    """Return the document: the bundle as what it is about, and below it what it was made of and by."""
    manifest = bundle.manifest
    checkpoint = _checkpoint(bundle)
    packages = [_package(name, version) for name, version in manifest.versions.items()]
    compilers = [] if manifest.kernels is None else [_kernel_compiler(manifest)]
    made_of = [checkpoint, *packages, *compilers]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SPACE, bundle.id)}",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "component": _bundle(bundle),
        },
        "components": made_of,
        "dependencies": [
            {"ref": _ref(bundle), "dependsOn": [item["bom-ref"] for item in made_of]},
            *({"ref": item["bom-ref"]} for item in made_of),
        ],
    }


def _ref(bundle: Bundle) -> str:
    return f"bundle:{bundle.id}"


def _bundle(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    rows, columns = manifest.mesh
    facts = {
        "target": manifest.target,
        "mesh": f"{rows}x{columns}",
        "dtype": manifest.dtype,
        "weights_dtype": manifest.weights_dtype,
        "format_version": str(manifest.format_version),
        "created_by": manifest.created_by,
    }
    # The id is the SHA-256 of the manifest, which has the hashes of all other files.
    return {
        "type": "machine-learning-model",
        "bom-ref": _ref(bundle),
        "name": "mochi-aot bundle",
        "version": bundle.id,
        "hashes": [{"alg": "SHA-256", "content": bundle.id}],
        "properties": _properties(facts),
    }


def _checkpoint(bundle: Bundle) -> dict[str, Any]:
    """Return the component for the checkpoint: its identity is a SHA-256 of sizes and of all its numbers."""
    origin = bundle.manifest.checkpoint
    repository, revision = origin.get("repository"), origin.get("revision")
    identity = origin.get("identity", "")
    made: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"checkpoint:{identity}",
        "name": repository or "checkpoint",
        "properties": _properties(origin),
    }
    if revision or identity:
        made["version"] = revision or identity
    if len(identity) == 64:
        made["hashes"] = [{"alg": "SHA-256", "content": identity}]
    if licences := _licences(bundle):
        made["licenses"] = licences
    if repository:
        version = f"@{revision}" if revision else ""
        made["purl"] = f"pkg:huggingface/{quote(repository)}{version}"
        made["externalReferences"] = [{"type": "distribution", "url": f"https://huggingface.co/{quote(repository)}"}]
    return made


def _licences(bundle: Bundle) -> list[dict[str, Any]]:
    """Return what the checkpoint says of its licence: the card's name for it, and the texts that came along."""
    named = bundle.manifest.checkpoint.get("license")
    texts = [name for name in bundle.manifest.notices if not name.lower().endswith(".md")]
    found = [{"license": {"name": named}}] if named else []
    for name in texts:
        text = bundle.notice(name).decode("utf-8", "replace")
        found.append({"license": {"name": name, "text": {"contentType": "text/plain", "content": text}}})  # type: ignore[dict-item]
    return found


def _package(name: str, version: str) -> dict[str, Any]:
    kind = "pkg:generic" if name == "python" else "pkg:pypi"
    purl = f"{kind}/{quote(name)}@{quote(version)}"
    made: dict[str, Any] = {
        "type": "platform" if name == "python" else "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    }
    if name in LICENCES:
        made["licenses"] = [{"license": {"id": LICENCES[name]}}]
    return made


def _kernel_compiler(manifest: Manifest) -> dict[str, Any]:
    kernels = manifest.kernels
    assert kernels is not None
    facts = {"stand_in": str(kernels.stand_in).lower(), "ttnn": kernels.ttnn, "root": kernels.root}
    archive = manifest.files[kernels.file]
    return {
        "type": "application",
        "bom-ref": "kernel-compiler",
        "name": "kernel compiler",
        "version": kernels.compiler,
        "properties": _properties(facts | {"archive": archive.path, "kernels": str(kernels.count)}),
    }


def _properties(facts: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": f"mochi-aot:{name}", "value": value} for name, value in facts.items()]
