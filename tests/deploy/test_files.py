"""The files in deploy/ agree with each other and the package, and systemd understands its one."""

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from mochi_aot.tools.commands.serve import main
from tests.deploy.dockerfile import DEPLOY, ROOT, instructions

DOCUMENTS = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
USER = 10001


def kind(name: str) -> dict[str, Any]:
    (found,) = (document for document in DOCUMENTS if document["kind"] == name)
    return dict(found)


def options(words: list[str]) -> set[str]:
    return {word for word in words if word.startswith("--")}


def test_all_that_the_image_is_built_from_is_let_through() -> None:
    """The ignore file leaves out everything but these, and the wheel needs all of them."""
    kept = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    folders = {"artifacts", "compiler", "runtime", "tools", "mochi_aot"}
    assert kept == folders | {"constraints.txt", "pyproject.toml", "LICENSE", "README.md"}
    # Of the source archive the folders are in the package; in a checkout the package links to them.
    assert all((ROOT / name).exists() or (ROOT / "mochi_aot" / name).exists() for name in kept)


def test_the_image_runs_as_nobody_and_is_asked_for_its_health() -> None:
    words = dict(instructions())
    assert words["USER"] == f"{USER}:{USER}"
    command = yaml.safe_load(words["HEALTHCHECK"].partition("CMD ")[2])
    assert command[0] == "python" and "/health" in command[2]
    compile(command[2], "HEALTHCHECK", "exec")


def test_every_command_line_has_options_that_there_are() -> None:
    known = {name for parameter in main.params for name in parameter.opts}
    image = yaml.safe_load(dict(instructions())["CMD"])
    pod = kind("StatefulSet")["spec"]["template"]["spec"]
    unit = (DEPLOY / "mochi-serve.service").read_text()
    started = shlex.split(re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)[1])  # type: ignore[index]
    for words in (image, pod["containers"][0]["args"], COMPOSE["services"]["serve"]["command"], started):
        assert options(words) <= known and "--state" in words
    assert "mochi-serve" in SCRIPTS and started[0].endswith("/mochi-serve")


def test_the_pod_may_do_nothing_and_is_probed() -> None:
    pod = kind("StatefulSet")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == USER and pod["securityContext"]["runAsNonRoot"]
    names = {volume["name"] for volume in pod["volumes"]}
    for container in pod["initContainers"] + pod["containers"]:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= names
        assert container["resources"]["limits"]["hugepages-1Gi"] == container["resources"]["requests"]["hugepages-1Gi"]
    (container,) = pod["containers"]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/health", "readiness": "/health", "liveness": "/tt-liveness"}
    template = pod["resourceClaims"][0]["resourceClaimTemplateName"]
    assert kind("ResourceClaimTemplate")["metadata"]["name"] == template
    claims = {document["metadata"]["name"] for document in DOCUMENTS if document["kind"] == "PersistentVolumeClaim"}
    mounted = {
        volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume
    }
    assert claims == mounted


def test_the_services_may_do_nothing_and_wait_for_the_doctor() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        assert service["read_only"] and service["user"] == f"{USER}:{USER}" and service["cap_drop"] == ["ALL"]
    assert services["serve"]["depends_on"] == {"doctor": {"condition": "service_completed_successfully"}}
    assert all(port.startswith("127.0.0.1:") for port in services["serve"]["ports"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """All but that there is nothing at /opt/mochi here; a word that it does not know is told."""
    unit = (DEPLOY / "mochi-serve.service").read_text()

    def told(text: str) -> list[str]:
        path = tmp_path / "mochi-serve.service"
        path.write_text(text)
        done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
        return [line for line in done.stderr.splitlines() if "mochi" in line and "is not executable" not in line]

    assert told(unit) == []
    assert told(unit.replace("ProtectHome=", "ProtectHouse=")) != []
