"""The document of what made a bundle, against what CycloneDX 1.6 asks for, and mochi-inspect's texts of notices."""

import json
import re
from importlib.metadata import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mochi_aot.artifacts import BundleWriter
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.tools.commands.inspect import main
from mochi_aot.tools.commands.sbom import LICENCES, sbom
from tests.artifacts import samples

CHECKPOINT = {
    "layout": "diffusers",
    "identity": "ab" * 32,
    "repository": "genmo/mochi-1-preview",
    "revision": "0" * 40,
    "license": "apache-2.0",
}
VERSIONS = {"python": "3.12.1", "torch": "2.9.0+cpu", "mochi-aot": "0.1.0"}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    with BundleWriter(tmp_path / "b") as writer:
        writer.add_notice("LICENSE", b"be \x1b[31mkind")
        writer.add_notice("README.md", b"# Card\n")
        writer.add_notice("NOTICE", b"")
        given = samples.BARE | {"checkpoint": CHECKPOINT, "versions": VERSIONS}
        writer.finish(**given, target="torch", dtype="float32")
    return Bundle.open(tmp_path / "b")


def inspect(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_what_the_specification_asks_for(bundle: Bundle) -> None:
    """By https://cyclonedx.org/docs/1.6/json: the required fields, unique references, and what refers to them."""
    made = sbom(bundle)
    assert (made["bomFormat"], made["specVersion"], made["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", made["serialNumber"])
    components = [made["metadata"]["component"], *made["components"]]
    assert all(component["type"] and component["name"] for component in components)
    references = [component["bom-ref"] for component in components]
    assert len(set(references)) == len(references)
    assert [item["ref"] for item in made["dependencies"]] == references
    assert made["dependencies"][0]["dependsOn"] == references[1:]
    assert made == sbom(bundle)


def test_what_is_in_it(bundle: Bundle) -> None:
    made = sbom(bundle)
    assert made["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": bundle.id}]
    checkpoint = made["components"][0]
    packages = {package["name"]: package for package in made["components"][1:]}
    assert checkpoint["purl"] == "pkg:huggingface/genmo/mochi-1-preview@" + "0" * 40
    assert checkpoint["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    named, text = (item["license"] for item in checkpoint["licenses"])
    assert named == {"name": "apache-2.0"} and text["text"]["content"] == "be \x1b[31mkind"
    assert {name: package["version"] for name, package in packages.items()} == VERSIONS
    assert packages["torch"]["purl"] == "pkg:pypi/torch@2.9.0%2Bcpu"
    assert packages["torch"]["licenses"] == [{"license": {"id": "BSD-3-Clause"}}]


@pytest.mark.parametrize("name", sorted(set(LICENCES) - {"python"}))
def test_licences_are_those_of_the_packages(name: str) -> None:
    """By the metadata of the packages that are installed, in the words that each has for it."""
    found = metadata(name)
    words = " ".join([found.get("License-Expression") or found.get("License") or "", *found.get_all("Classifier", [])])
    words = words.lower()
    expected = {"Apache-2.0": ("apache-2.0", "apache 2", "apache software"), "BSD-3-Clause": ("bsd-3-clause", "bsd")}
    assert any(word in words for word in expected[LICENCES[name]]), words[:200]


def test_the_command(bundle: Bundle, tmp_path: Path) -> None:
    place = tmp_path / "bom.json"
    done = inspect(bundle.path, "--sbom", place)
    assert done.exit_code == 0 and "notices    LICENSE, README.md\n" in done.stdout
    assert "repository genmo/mochi-1-preview" in done.stdout
    assert json.loads(place.read_text()) == sbom(bundle)
    assert inspect(bundle.path, "--sbom", place).exit_code == 4
    assert inspect(bundle.path, "--sbom", place, "--force").exit_code == 0


def test_a_notice_is_printed_and_not_obeyed(bundle: Bundle) -> None:
    assert inspect(bundle.path, "--notice", "LICENSE").stdout == "be \\x1b[31mkind\n"
    done = inspect(bundle.path, "--notice", "none")
    assert done.exit_code == 2 and "it has LICENSE, README.md" in done.stderr
    assert inspect(bundle.path, "--notice", "LICENSE", "--weights").exit_code == 2


def test_a_notice_that_was_changed_is_refused(bundle: Bundle) -> None:
    place = next((bundle.path / "notices").iterdir())
    place.write_bytes(place.read_bytes()[:-1] + b"!")
    names = [name for name, index in bundle.manifest.notices.items() if bundle.manifest.files[index].path in str(place)]
    assert inspect(bundle.path, "--notice", names[0]).exit_code == 3
