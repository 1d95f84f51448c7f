"""A ttnn bundle through the command lines, on a mocked mesh: its numbers are zeros, its path is the chips'."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mochi_aot.artifacts import Bundle
from mochi_aot.artifacts.envelope import pack
from mochi_aot.artifacts.layout import MANIFEST_MAGIC, MANIFEST_PATH
from mochi_aot.compiler.checkpoint.presets import BENCH, TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.runtime.video import write_video
from tests.forked import run_forked
from tests.runtime import toy_bundle
from tests.tools.commands.mutations import FREE_ON_CHIPS, accepted, refusal, unknown

GEOMETRY = "64x128x13"
CONFIG = replace(BENCH, dit=replace(BENCH.dit, layers=2), text=replace(BENCH.text, num_layers=2), vae=TINY.vae)
TO_VIDEO = ["--device", "mock", "--prompt", "a fox", "--steps", "2", "--seed", "1"]
ON_MOCK = [*TO_VIDEO, "--no-decode"]


def command(tool: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"mochi_aot.tools.commands.{tool}", *arguments]


def run(tool: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command line in a process of its own: ttnn knows one mesh a process."""
    if tool == "compile":
        return run_forked(tool, *arguments)
    return subprocess.run(command(tool, *arguments), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ttnn")
    write_checkpoint(folder / "checkpoint", CONFIG, "diffusers")
    options = ["--mesh", "2x4", "--weights-dtype", "bfloat8_b", "--geometry", GEOMETRY]
    done = run("compile", "--checkpoint", str(folder / "checkpoint"), *options, "-o", str(folder / "bundle"))
    assert done.returncode == 0, done.stderr
    return folder / "bundle"


def compile_words(folder: Path, output: Path, geometry: str, *options: str) -> list[str]:
    words = ["--checkpoint", str(folder / "checkpoint"), "--mesh", "2x4", "--target", "ttnn", "--geometry", geometry]
    return [*words, "--weights-dtype", "bfloat8_b", "-o", str(output), *options]


@pytest.mark.slow
def test_another_geometry_shares_the_files(bundle: Path, tmp_path: Path) -> None:
    """Of all weights that are made in the same way for it, and then it is the same bundle as without."""
    other, fresh = tmp_path / "other", tmp_path / "fresh"
    for output, options in ((fresh, []), (other, ["--reuse", str(bundle)])):
        done = run("compile", *compile_words(bundle.parent, output, "64x64x13", *options))
        assert done.returncode == 0, done.stderr
    assert Bundle.open(other).id == Bundle.open(fresh).id
    old, new = (tensor_files(folder) for folder in (bundle, other))
    assert all(new[source].samefile(old[source]) for source in old.keys() & new.keys())
    assert len(new) / 2 < len(old.keys() & new.keys()) < len(new)
    Bundle.open(other).verify()


def tensor_files(path: Path) -> dict[str, Path]:
    """The file of each weight, by what the weight was made of."""
    opened = Bundle.open(path)
    return {weight.source: opened.tensor_file(weight.name) or path for weight in opened.manifest.weights}


KILLED = """
import os, signal
from mochi_aot.tools.commands.compiling import Terminal
Terminal.weights = lambda self, done, total: os.kill(os.getpid(), signal.SIGKILL) if 2 * done > total else None
"""
FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
"""


@pytest.mark.slow
def test_killed_and_resumed_it_is_the_same_bundle(bundle: Path, tmp_path: Path) -> None:
    words = compile_words(bundle.parent, tmp_path / "out", GEOMETRY)
    killed = run_forked("compile", *words, before=KILLED)
    assert killed.returncode == -signal.SIGKILL
    done = run("compile", *words, "--resume")
    assert done.returncode == 0, done.stderr
    assert ", 0 B of it made before" not in done.stdout
    assert Bundle.open(tmp_path / "out").id == Bundle.open(bundle).id
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_a_full_disk_is_one_line(bundle: Path, tmp_path: Path) -> None:
    done = run_forked("compile", *compile_words(bundle.parent, tmp_path / "out", GEOMETRY), before=FULL)
    assert done.returncode == 7
    assert done.stderr.count("error: ") == 1 and done.stderr.rstrip().endswith(": File too large")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_weight_that_is_no_number_ends_the_compile(bundle: Path, tmp_path: Path) -> None:
    """Before it becomes bfloat8_b, where its neighbours would share its exponent."""
    shutil.copytree(bundle.parent / "checkpoint", tmp_path / "checkpoint", copy_function=os.link)
    path, key = tmp_path / "checkpoint/transformer/diffusion_pytorch_model.safetensors", "proj_out.weight"
    tensors = load_file(path)
    tensors[key] = tensors[key].copy()
    tensors[key][2, 1] = np.nan
    path.unlink()
    save_file(tensors, path)
    done = run("compile", *compile_words(tmp_path, tmp_path / "out", GEOMETRY))
    assert done.returncode == 3
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert line.startswith(f"error: {path}: {key}[2, 1] is nan, which is not a finite number: ")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.slow
def test_every_instruction_is_looked_at_on_a_mocked_mesh(bundle: Path, tmp_path: Path) -> None:
    """All is zero there, and so finite."""
    prompt = ["--device", "mock", "--prompt", "a fox", "--steps", "1", "--no-decode"]
    done = run("run", str(bundle), *prompt, "--check-values", "--save-latents", str(tmp_path / "latents.safetensors"))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_it_runs_on_a_mocked_mesh(bundle: Path, tmp_path: Path) -> None:
    latents, video = tmp_path / "latents.safetensors", tmp_path / "video.mp4"
    done = run("run", str(bundle), *TO_VIDEO, "--save-latents", str(latents), "-o", str(video))
    assert done.returncode == 0, done.stderr
    assert imageio_ffmpeg.count_frames_and_secs(video)[0] == 13
    assert ", on a mock mesh, which computes nothing: all of it is zeros, " in done.stdout
    assert json.loads(video.with_suffix(".json").read_text())["mock"] is True
    assert load_file(latents)["latents"].shape == (1, 12, 3, 8, 16)
    assert np.isfinite(load_file(latents)["latents"]).all()


IN_PYTHON = """
import sys
import numpy as np
import mochi_aot
ttnn, torch, tall = sys.argv[1:]
options = {"num_inference_steps": 2, "seed": 1}

def refused(*arguments):
    try:
        mochi_aot.load(*arguments).close()
    except mochi_aot.BackendError as error:
        print(error)

with mochi_aot.load(ttnn, "mock") as first, mochi_aot.load(torch) as second:
    print(first.mock, second.mock)
    for _ in range(2):  # in turns
        assert not first("a fox", **options).latents.any() and second("a fox", **options).latents.any()
    refused(ttnn, "mock")
    stopped = first("a fox", num_inference_steps=3, callback_on_step_end=lambda pipe, step, *_: setattr(
        pipe, "guidance_scale", 2.0 + step))
    print(stopped.record["mock"], stopped.record["arguments"]["guidance-scale"])
    try:
        first.encode(stopped.frames)
    except mochi_aot.BundleError as error:
        print(str(error).rpartition("/")[2])
with mochi_aot.load(ttnn, "mock") as again:
    print(again("a fox", **options).frames.shape)
refused(tall, "mock")
refused(ttnn, "chips")
"""


@pytest.mark.slow
def test_video_to_video_on_a_mock(bundle: Path, tmp_path: Path) -> None:
    """Every op of the encoder is accepted, its weights are made, and a video of another one is of zeros, as all are."""
    output = tmp_path / "both"
    options = ["--with-encoder", "--mesh", "1x2", "--geometry", "64x64x7"]
    words = ["--checkpoint", str(bundle.parent / "checkpoint"), "--target", "ttnn", "-o", str(output), *options]
    done = run("compile", *words)
    assert done.returncode == 0, done.stderr
    made = Bundle.open(output)
    assert "encode" in made.manifest.geometries[0].dram_peaks
    write_video(tmp_path / "in.mp4", np.zeros((7, 64, 64, 3), np.uint8))
    words = ["--device", "mock", "--prompt", "a fox", "--steps", "4", "--input-video", str(tmp_path / "in.mp4")]
    done = run("run", str(output), *words, "--strength", "0.5", "-o", str(tmp_path / "out.mp4"))
    assert done.returncode == 0, done.stderr
    assert "the last 2 of 4 steps" in done.stdout and "mock mesh" in done.stdout


@pytest.mark.slow
def test_bundles_in_one_process(bundle: Path, tmp_path: Path) -> None:
    """One for ttnn and one for torch at once; two for ttnn one after the other, if they are of the same mesh."""
    toy_bundle.write_bundle(tmp_path / "torch")
    toy_bundle.write_bundle(tmp_path / "tall", mesh=(4, 2), target="ttnn")
    tall = tmp_path / "tall"
    words = [sys.executable, "-c", IN_PYTHON, str(bundle), str(tmp_path / "torch"), str(tall)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "True False",
        f"a process has one ttnn mesh open at a time, and {bundle} has it here; close that bundle before {bundle} is "
        "loaded, or load it in another process",
        "True [6.0, 2.0, 3.0]",
        "bundle has no video encoder, which input videos need; compile it again with --with-encoder (and --reuse, "
        "which makes the encoder's weights alone)",
        "(13, 64, 128, 3)",
        f"ttnn was set up for a mock of 2x4 chips in this process; load {tall} in another process",
        f"ttnn was set up for a mock of 2x4 chips in this process; load {bundle} in another process",
    ]


COMPILED_AND_LOADED = """
import os, sys
import mochi_aot
checkpoint, output, geometry, device = sys.argv[1:]
before = dict(os.environ)
options = {"mesh": "2x4", "weights_dtype": "bfloat8_b", "geometries": geometry}
mochi_aot.compile(checkpoint, output=output, **options)
print(dict(os.environ) == before, "ttnn" in sys.modules, "torch" in sys.modules)
try:
    with mochi_aot.load(output, device) as pipe:
        print(mochi_aot.compile(checkpoint, output=output + "2", reuse=output, **options).bundle_id == pipe.bundle.id)
        print(pipe("a fox", num_inference_steps=2, seed=1).frames.shape)
except mochi_aot.BackendError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("device", ["mock", "chips"])
def test_a_process_that_compiles_loads_the_bundle_too(bundle: Path, tmp_path: Path, device: str) -> None:
    """Compiling leaves nothing in it: on chips it gets as far as they do; it compiles beside an open mesh, too."""
    words = [str(bundle.parent / "checkpoint"), str(tmp_path / "b"), GEOMETRY, device]
    done = subprocess.run(
        [sys.executable, "-c", COMPILED_AND_LOADED, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    untouched, *after = done.stdout.splitlines()
    assert untouched == "True False False"
    if device == "mock":
        assert after == ["True", "(13, 64, 128, 3)"]
    else:
        assert after[0].startswith("cannot open a mesh of 2x4 chips")
    assert {path.name for path in tmp_path.iterdir()} <= {"b", "b2"}


def rewritten(bundle: Path, folder: Path, **changes: Any) -> Path:
    """The bundle with another manifest, sealed as it should be."""
    copy = folder / "copy"
    shutil.copytree(bundle, copy, copy_function=os.link)
    manifest = replace(Bundle.open(bundle).manifest, **changes)
    (copy / MANIFEST_PATH).unlink()  # which is the first bundle's too
    (copy / MANIFEST_PATH).write_bytes(pack(MANIFEST_MAGIC, manifest, "m"))
    return copy


def run_changed(change: str, command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command in a process that runs `change` first."""
    code = f"{change}\nfrom mochi_aot.tools.commands.{command} import main\nmain()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


# A mock has the bundle's architecture, so that its chips are others than the bundle's only by a change.
WORMHOLE_MOCK = """
import mochi_aot.runtime.ttnn.environment as environment
prepare = environment.prepare_mock
environment.prepare_mock = lambda mesh, folder, cache, arch: prepare(mesh, folder, cache)
"""


@pytest.mark.slow
def test_chips_of_another_architecture_are_refused(bundle: Path, tmp_path: Path) -> None:
    """Here the bundle is for others than the mesh has; nothing is loaded."""
    settings = Bundle.open(bundle).manifest.mesh_settings
    assert settings is not None and settings.arch == "wormhole_b0"
    other = rewritten(bundle, tmp_path, mesh_settings=replace(settings, arch="blackhole"))
    error = "error: the bundle was compiled for blackhole chips, and these are wormhole_b0 chips"
    for done in (
        run_changed(
            WORMHOLE_MOCK, "run", str(other), *ON_MOCK, "--save-latents", str(tmp_path / "latents.safetensors")
        ),
        run_changed(WORMHOLE_MOCK, "verify", str(other)),
    ):
        assert done.returncode == 5
        assert done.stderr.splitlines()[-1] == error
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.slow
def test_another_ttnn_is_told_once(bundle: Path, tmp_path: Path) -> None:
    """And the bundle runs, with kernels that are built here."""
    manifest = Bundle.open(bundle).manifest
    assert manifest.kernels is not None and manifest.ttnn == version("ttnn")
    other = rewritten(bundle, tmp_path, ttnn="0.80.0", kernels=replace(manifest.kernels, ttnn="0.80.0"))
    line = f"the bundle was compiled for ttnn 0.80.0, and this is {version('ttnn')}: "
    for path, told in ((other, 1), (bundle, 0)):
        done = run("run", str(path), *ON_MOCK, "--save-latents", str(tmp_path / f"{told}.safetensors"))
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(line) == told


@pytest.mark.slow
def test_every_field_of_the_manifest_but_those_that_are_free(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert refusal(opened, opened.manifest) is None
    found = accepted(opened)
    assert unknown(found, FREE_ON_CHIPS) == {}
    for pattern in FREE_ON_CHIPS:  # none of them stands there for nothing
        assert any(re.fullmatch(pattern, field) for field in found), pattern


@pytest.mark.slow
def test_every_op_is_accepted(bundle: Path) -> None:
    done = run("verify", str(bundle), "--json")
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)["programs"]
    roles = ["encode_text", "prepare_prompt", "prepare_steps", "denoise", "decode"]
    assert [report["role"] for report in reports] == roles
    assert all(report["accepted"] == report["ops"] > 0 for report in reports)
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    assert {report["role"]: report["peak_bytes"] for report in reports} == manifest.geometries[0].dram_peaks
    for report in reports:  # what the program says that its weights take, beside what ttnn's allocator gave them
        program = opened.program(report["role"], manifest.geometries[0])
        # Each of the 12 banks has the same number of whole tiles, of at most 4096 bytes.
        rounding = 12 * 4096 * len(program.weights)
        assert 0 <= report["weight_bytes"] - program.stats.weight_bytes <= rounding
    assert manifest.kernels is not None and manifest.kernels.count > 100
    assert sum(report["kernels_found"] for report in reports) == manifest.kernels.count
    assert sum(report["kernels_built"] for report in reports) == 0


@pytest.mark.slow
def test_two_processes_at_once_find_all_kernels_where_nothing_was_unpacked(bundle: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "MOCHI_CACHE": str(tmp_path / "cache")}
    started = [
        subprocess.Popen(
            command("run", str(bundle), *TO_VIDEO, "-o", str(tmp_path / f"{name}.mp4")),
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    kernels = Bundle.open(bundle).manifest.kernels
    assert kernels is not None
    for process in started:
        assert f"kernels: {kernels.count} found, 0 built" in process.communicate()[1]
        assert process.returncode == 0


@pytest.mark.slow
def test_compiling_again_gives_the_same_bundle(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere, and without what was built the first time."""
    monkeypatch.setenv("MOCHI_CACHE", str(tmp_path / "cache"))
    options = ["--mesh", "2x4", "--target", "ttnn", "--weights-dtype", "bfloat8_b", "--geometry", GEOMETRY]
    done = run("compile", "--checkpoint", str(bundle.parent / "checkpoint"), *options, "-o", str(tmp_path / "bundle"))
    assert done.returncode == 0, done.stderr
    assert Bundle.open(tmp_path / "bundle").id == Bundle.open(bundle).id


@pytest.mark.slow
def test_programs_of_the_bundle_that_is_reused_do_not_run_dry_again(bundle: Path, tmp_path: Path) -> None:
    """Its peaks and kernels are taken: with other weights the bundle is that of a compile by itself, but for these."""
    changed = shutil.copytree(bundle.parent / "checkpoint", tmp_path / "checkpoint")
    place = min(changed.rglob("transformer/*.safetensors"))
    tensors = load_file(place)
    save_file(tensors | {"proj_out.weight": -tensors["proj_out.weight"]}, place)
    no_dry_run = "import mochi_aot.compiler.lower.ttnn.target as target\ntarget.run_and_pack = None"
    words = compile_words(tmp_path, tmp_path / "tuned", GEOMETRY, "--reuse", str(bundle))
    done = run_forked("compile", *words, before=no_dry_run)
    assert done.returncode == 0, done.stderr
    base, tuned = (Bundle.open(path).manifest for path in (bundle, tmp_path / "tuned"))
    assert tuned.geometries == base.geometries and tuned.mesh_settings == base.mesh_settings
    assert tuned.kernels is not None and base.kernels is not None
    assert tuned.files[tuned.kernels.file] == base.files[base.kernels.file]
    assert replace(tuned.kernels, file=base.kernels.file) == base.kernels and tuned.weights != base.weights
    Bundle.open(tmp_path / "tuned").verify()


@pytest.mark.slow
def test_a_program_that_ttnn_refuses_is_not_compiled(bundle: Path, tmp_path: Path) -> None:
    """Attention in chunks of one and a half tiles, as no rule makes them."""
    chunks = "import mochi_aot.compiler.lower.ttnn.rules.attention as attention\nattention.CHUNK = 48"
    options = ["--mesh", "1x2", "--target", "ttnn", "--geometry", "64x64x7", "-o", str(tmp_path / "bundle")]
    done = run_forked("compile", "--checkpoint", str(bundle.parent / "checkpoint"), *options, before=chunks)
    assert done.returncode == 6 and done.stdout == ""
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: geometry 64x64x7: refused: encode_text, instruction ")
    assert ", transformer.scaled_dot_product_attention" in error and "48" in error
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_heads_of_no_whole_tiles_are_not_compiled(tmp_path: Path) -> None:
    """The tiny preset's, of 24 numbers."""
    write_checkpoint(tmp_path / "checkpoint", TINY, "diffusers")
    options = ["--mesh", "1x2", "--target", "ttnn", "--geometry", "64x64x7", "-o", str(tmp_path / "bundle")]
    done = run("compile", "--checkpoint", str(tmp_path / "checkpoint"), *options)
    assert done.returncode == 6 and done.stdout == ""
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: mesh 1x2: no plan works; plan ")
    assert "heads of 24 numbers; the ttnn target wants a multiple of 32" in error
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.slow
def test_without_chips_it_says_so(bundle: Path, tmp_path: Path) -> None:
    options = ["--steps", "2", "--seed", "1", "--no-decode", "--save-latents", str(tmp_path / "latents.safetensors")]
    done = run("run", str(bundle), "--prompt", "a fox", *options)
    assert done.returncode == 5
    *phases, ignored, error = done.stderr.splitlines()
    assert phases == ["open the bundle", "open the device"]
    assert ignored.startswith("warning: the bundle's kernels are not used: they were made by the stand-in compiler")
    assert error.startswith("error: cannot open a mesh of 2x4 chips")
    assert not list(tmp_path.iterdir())
