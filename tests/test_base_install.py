"""An inference host for ttnn bundles: what `pip install mochi-aot` gives, which has no torch.

A process of its own stands for that host. Python starts without site-packages, and the one folder that it then sees
holds this repository's packages and links to the top-level files of exactly the distributions that pip would install:
those that pyproject.toml requires, and what their metadata requires, for this Python and platform. All else that is
installed here, torch first, cannot be found; that is all that an environment of these alone would make of it.
"""

import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from safetensors.numpy import load_file

from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from tests.tools.serve.servers import Server
from tests.ttnn_golden.lowered_model import CONFIG

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BASE = PROJECT["dependencies"]
SERVE = BASE + PROJECT["optional-dependencies"]["serve"]
BUILD_HOST = ("torch", "transformers", "diffusers", "sentencepiece", "pytest")

HOST = f"""
import importlib, importlib.util, sys
sys.path.append(sys.argv.pop(1))
tool = sys.argv.pop(1)
try:
    importlib.import_module("mochi_aot.tools.commands." + tool).main(prog_name="mochi-" + tool)
finally:
    print("found:", *filter(importlib.util.find_spec, {BUILD_HOST!r}), file=sys.stderr)
"""


def required(requirements: list[str]) -> set[str]:
    """Names of the distributions that pip would install for these requirements."""
    found: set[str] = set()
    open_ = [(Requirement(text), frozenset[str]()) for text in requirements]
    seen = set()
    while open_:
        requirement, parents = open_.pop()
        name = canonicalize_name(requirement.name)
        if (name, *sorted(requirement.extras)) in seen or not _applies(requirement, parents):
            continue
        seen.add((name, *sorted(requirement.extras)))
        found.add(name)
        inner = distribution(name).requires or []
        open_ += [(Requirement(text), frozenset(requirement.extras)) for text in inner]
    return found


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    """Whether a requirement holds here, for a distribution that was asked for with `extras`."""
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in (extras or {""}))


def site_folder(folder: Path, distributions: set[str]) -> Path:
    """A folder with these distributions and this repository's package, as links."""
    folder.mkdir(exist_ok=True)
    for name in distributions:
        files = distribution(name).files or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            path = folder / top
            if not path.exists():  # namespaces are shared
                path.symlink_to(Path(str(distribution(name).locate_file(top))))
    (folder / "mochi_aot").symlink_to(ROOT / "mochi_aot")
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return site_folder(tmp_path_factory.mktemp("site"), required(BASE))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Compiled on the build host, this environment."""
    folder = tmp_path_factory.mktemp("bundle")
    write_checkpoint(folder / "checkpoint", CONFIG, "diffusers")
    options = ["--mesh", "2x4", "--target", "ttnn", "--weights-dtype", "bfloat8_b", "--geometry", "64x128x13"]
    command = [
        sys.executable,
        "-m",
        "mochi_aot.tools.commands.compile",
        "--checkpoint",
        str(folder / "checkpoint"),
        *options,
    ]
    subprocess.run([*command, "-o", str(folder / "bundle")], check=True, capture_output=True)
    return folder / "bundle"


def command_on_host(site: Path, tool: str, *arguments: str) -> list[str]:
    """A command line there. The last line on stderr says which of BUILD_HOST's modules it could have imported."""
    return [sys.executable, "-I", "-S", "-c", HOST, str(site), tool, *arguments]


def on_host(site: Path, tool: str, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = command_on_host(site, tool, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def test_distributions_of_the_base_install() -> None:
    base = required(BASE)
    assert {"numpy", "msgpack", "tokenizers", "huggingface-hub"} <= base
    assert {"ttnn", "loguru", "pandas", "contourpy"} <= base
    assert not base & {"torch", "transformers", "diffusers", "pytest"}
    assert "torch" in required(PROJECT["optional-dependencies"]["compile"])


@pytest.mark.slow
def test_a_bundle_runs_where_there_is_no_torch(site, bundle, tmp_path):
    latents = tmp_path / "latents.safetensors"
    options = ["--device", "mock", "--steps", "2", "--seed", "1", "--no-decode", "--save-latents", str(latents)]
    done = on_host(site, "run", str(bundle), "--prompt", "a fox", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    phases = ["open the bundle", "open the device", "encode the prompt", "prepare the steps", "denoise"]
    assert lines[:5] == phases and lines[-1] == "found:"
    assert lines[5].startswith("kernels: ") and lines[5].endswith(" found, 0 built")
    assert done.stdout.startswith(f"{latents}: 128x64, 13 frames") and done.stdout.count("\n") == 1
    assert load_file(latents)["latents"].shape == (1, 12, 3, 8, 16)


@pytest.mark.slow
def test_a_bundle_is_served_there(bundle, tmp_path):
    """With what the extra `serve` adds, which is no torch either."""
    site = site_folder(tmp_path / "site", required(SERVE))
    words = [str(bundle), "--device", "mock", "--state", "state", "--port", "0", "--quiet"]
    command, pipe = command_on_host(site, "serve", *words), subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None
            server = Server(process.stdout.readline().strip(), process, tmp_path / "state")
            body = {"prompt": "a fox", "num_inference_steps": 1, "seed": 1}
            name = server.ask("POST", "/v1/videos/generations", body).json["id"]
            assert server.wait(name, "completed", "failed")["status"] == "completed"
            video = server.ask("GET", f"/v1/videos/{name}/content")
            assert video.status == 200 and video.body[4:8] == b"ftyp"  # ISO 14496-12: the first box of an mp4
        finally:
            process.terminate()
            _, messages = process.communicate()
    assert process.returncode == 143 and messages.splitlines()[-1] == "found:", messages


@pytest.mark.slow
def test_a_bundle_is_inspected_there(site, bundle, tmp_path):
    done = on_host(site, "inspect", str(bundle), cwd=tmp_path)
    assert done.returncode == 0 and "ttnn, mesh 2x4" in done.stdout
    assert done.stderr == "found:\n"


@pytest.mark.slow
def test_nothing_is_compiled_there(site, bundle, tmp_path):
    checkpoint = str(bundle.parent / "checkpoint")
    done = on_host(site, "compile", "--checkpoint", checkpoint, "--mesh", "1x1", "-o", "made", cwd=tmp_path)
    assert done.returncode == 5 and not list(tmp_path.iterdir())
    advice = "this command is for the build host: pip install 'mochi-aot[compile]'"
    assert done.stderr.splitlines() == ["loading the compiler", f"error: torch is not installed; {advice}", "found:"]


@pytest.mark.slow
def test_what_ttnn_rejects_is_told_on_stderr_alone(site, bundle, tmp_path):
    """ttnn itself would tell it on stdout, which is for results."""
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    for path in (broken / "weights").iterdir():
        with path.open("r+b") as file:
            file.write(bytes(64))  # a wrong header, in a file of the right size
    options = ["--device", "mock", "--steps", "1", "--no-decode", "--save-latents", "latents.safetensors"]
    words = ["run", str(broken), "--prompt", "a fox", *options]
    checked = on_host(site, *words, cwd=tmp_path)  # never comes to ttnn
    assert (checked.returncode, checked.stdout) == (3, "") and "do not match their hash" in checked.stderr
    done = on_host(site, *words, "--no-check", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (5, "")
    assert " cannot be loaded: Cannot validate tensor data" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]
