"""Who may import whom: every import statement against one table, and what a running process really loads."""

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.runtime import toy_bundle

ROOT = Path(__file__).parents[1]
# Folder -> libraries, and other folders of the repository, that its files may import, at the top or inside a function.
# The longest folder name that fits a file holds; a file may always import its own folder and artifacts.errors.
ALLOWED = {
    "artifacts": {"blake3", "msgpack", "numpy"},
    "compiler": {"artifacts", "compiler", "numpy", "torch"},
    "compiler/checkpoint": {
        "artifacts.integrity",
        "artifacts.regular_file",
        "artifacts.layout",
        "artifacts.safetensors_header",
        "artifacts.staging",
        "artifacts.tokenizer_limits",
        "compiler.reference.config",
        "gguf",
        "numpy",
        "safetensors",
        "tokenizers",
        "torch",
        "transformers",
    },
    "compiler/hub": {"compiler.checkpoint", "compiler.job", "httpx2", "huggingface_hub", "tqdm"},
    "compiler/ir": {"artifacts.dtypes", "artifacts.roles", "numpy"},
    "compiler/lora": {"artifacts", "compiler.checkpoint", "compiler.ir", "compiler.lower", "compiler.partition.mesh"}
    | {"compiler.hub", "compiler.reference.config", "safetensors", "torch"},
    "compiler/lower": {"artifacts", "compiler.ir", "compiler.partition", "compiler.passes", "compiler.torch_dtypes"}
    | {"numpy", "torch"},
    "compiler/lower/ttnn": {"artifacts", "compiler.ir", "compiler.lower", "compiler.partition", "compiler.passes"}
    | {"compiler.torch_dtypes", "numpy", "torch", "ttnn"},
    "compiler/partition": {"artifacts.dtypes", "artifacts.layout", "compiler.ir", "compiler.passes"},
    "compiler/passes": {"artifacts.roles", "compiler.ir", "numpy"},
    "compiler/reference": {"artifacts.roles", "numpy", "torch", "transformers"},
    "compiler/trace": {"artifacts.roles", "compiler.ir", "compiler.torch_dtypes", "numpy", "torch"},
    "runtime": {"PIL", "artifacts", "cryptography", "imageio_ffmpeg", "numpy", "safetensors", "tokenizers"},
    "runtime/torch": {"artifacts", "numpy", "runtime", "torch"},
    "runtime/torch/gpu": {"artifacts", "runtime", "torch", "triton"},
    "runtime/ttnn": {"artifacts", "numpy", "runtime", "ttnn"},
    "tools": {
        "artifacts",
        "click",
        "compiler",
        "diffusers",
        "imageio_ffmpeg",
        "numpy",
        "rich",
        "runtime",
        "safetensors",
    }
    | {"mochi_aot", "torch", "ttnn"},
    "tools/bundle": {"artifacts", "cryptography", "fsspec", "httpx2", "runtime", "tools.commands.listing", "zstandard"},
    "tools/golden": {"artifacts", "numpy", "runtime", "torch", "ttnn"},
    # The server knows what the package gives to everybody, and nothing of bundles or models.
    "tools/serve": {"mochi_aot", "prometheus_client", "starlette", "uvicorn"},
    "tools/serve/page": {"gradio", "mochi_aot", "starlette", "tools.serve"},
    "tools/training": {"artifacts", "click", "compiler", "numpy", "runtime", "safetensors", "tools", "torch"}
    | {"transformers"},
}
# The one place where the host side may reach for a backend. And three where the compiler may reach for the runtime: to
# run what it has made dry, as the inference host would, before it writes a bundle that no host could run; to keep
# what it has read of a checkpoint in the one folder of this user's caches; and to stop by a signal as the runtime does.
EXCEPTIONS = {
    ("compiler/api.py", "runtime.cache"),
    ("compiler/child.py", "runtime.interrupt"),
    ("compiler/lower/ttnn/dry_run.py", "runtime.ttnn.mocked"),
    ("runtime/targets.py", "runtime.torch"),
    ("runtime/targets.py", "runtime.torch.distributed.follower"),
    ("runtime/targets.py", "runtime.torch.distributed.leader"),
    ("runtime/targets.py", "runtime.ttnn.backend"),
    ("runtime/targets.py", "runtime.ttnn.environment"),
    ("runtime/targets.py", "runtime.ttnn.simulator"),
}
FOLDERS = ("artifacts", "compiler", "runtime", "tools")
PACKAGE = ROOT / "mochi_aot"
FILES = sorted(path for folder in FOLDERS for path in (PACKAGE / folder).rglob("*.py"))


def room(path: Path) -> str:
    """The folder whose rule holds for a file."""
    folders = [str(parent) for parent in path.relative_to(PACKAGE).parents]
    return next(folder for folder in folders if folder in ALLOWED)


def imported(path: Path) -> set[str]:
    """Modules that a file names in its imports, without the standard library and without `mochi_aot.`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            names.add(node.module or "")
    kept = {name for name in names if name.split(".")[0] not in sys.stdlib_module_names}
    return {name.removeprefix("mochi_aot.") for name in kept}


def may_import(path: Path, name: str) -> bool:
    own = room(path).replace("/", ".")
    if (str(path.relative_to(PACKAGE)), name) in EXCEPTIONS:
        return True
    allowed = ALLOWED[room(path)] | {own, "artifacts.errors"}
    if not any(name == prefix or name.startswith(prefix + ".") for prefix in allowed):
        return False
    # A folder's rule does not open the folders inside it that have rules of their own.
    inner = {folder.replace("/", ".") for folder in ALLOWED if folder.startswith(room(path) + "/")}
    return own != "runtime" or not any(name == folder or name.startswith(folder + ".") for folder in inner)


def test_the_exceptions_are_needed_and_explained() -> None:
    """Each in CONTRIBUTING.md, by the names of the file and the module."""
    items = re.split(r"\n\s*- ", (ROOT / "CONTRIBUTING.md").read_text())
    for file, module in EXCEPTIONS:
        assert module in imported(PACKAGE / file)
        assert any(item.startswith(f"`{file}` imports ") and f"`{module}`" in item for item in items), (file, module)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_import_is_allowed_in_its_folder(path: Path) -> None:
    assert {name for name in imported(path) if not may_import(path, name)} == set()


def test_the_scan_sees_what_is_forbidden(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text("import os.path, torch.nn\ndef f():\n    from mochi_aot.compiler.ir import ops\n")
    assert imported(source) == {"torch.nn", "compiler.ir"}
    assert not may_import(PACKAGE / "artifacts/reader.py", "torch.nn")
    assert not may_import(PACKAGE / "runtime/pipeline.py", "compiler.ir")
    assert not may_import(PACKAGE / "runtime/pipeline.py", "runtime.torch.backend")
    assert not may_import(PACKAGE / "compiler/ir/ops.py", "torch")
    assert not may_import(PACKAGE / "compiler/ir/ops.py", "compiler.passes.dce")
    assert may_import(PACKAGE / "compiler/lower/ttnn/dry_run.py", "runtime.ttnn.mocked")
    assert not may_import(PACKAGE / "compiler/lower/ttnn/dry_run.py", "runtime.ttnn.backend")
    assert not may_import(PACKAGE / "compiler/lower/ttnn/target.py", "runtime.ttnn.mocked")
    assert may_import(PACKAGE / "runtime/torch/backend.py", "torch.nn")
    assert may_import(PACKAGE / "compiler/partition/rules/nn.py", "compiler.partition.plan")


def loaded_after(source: str, *arguments: str) -> set[str]:
    """Names of the modules that a fresh process has loaded once it has run `source`."""
    command = [sys.executable, "-c", source + "\nimport sys\nprint('modules:', *sys.modules)", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.rpartition("modules:")[2].split())


def modules_of(*folders: str) -> str:
    """Source that imports every module directly in some folders."""
    files = (path for folder in folders for path in sorted((PACKAGE / folder).glob("*.py")))
    names = (".".join(["mochi_aot", *path.relative_to(PACKAGE).with_suffix("").parts]) for path in files)
    return "\n".join(f"import {name.removesuffix('.__init__')}" for name in names)


MODEL_CODE = {"mochi_aot.compiler", "transformers", "diffusers"}
BACKENDS = {"torch", "ttnn"}


def test_artifacts_load_neither_backend_nor_compiler() -> None:
    loaded = loaded_after(modules_of("artifacts"))
    assert "mochi_aot.artifacts.reader" in loaded
    assert not loaded & (MODEL_CODE | BACKENDS | {"mochi_aot.runtime", "tokenizers", "safetensors"})


def test_the_runtime_without_a_backend_loads_no_torch() -> None:
    loaded = loaded_after(modules_of("artifacts", "runtime"))
    assert "mochi_aot.runtime.pipeline" in loaded
    assert not loaded & (MODEL_CODE | BACKENDS)


@pytest.mark.parametrize("module", ["run", "inspect"])
def test_the_inference_hosts_command_lines_load_no_torch(module: str) -> None:
    assert not loaded_after(f"import mochi_aot.tools.commands.{module}") & (MODEL_CODE | BACKENDS)


def test_reading_begins_before_anything_large_is_loaded() -> None:
    loaded = loaded_after("import mochi_aot.artifacts.reader, mochi_aot.runtime.weight_reader")
    third_party = {name.split(".")[0] for name in loaded} & installed_libraries()
    assert third_party == {"blake3", "msgpack"} and not loaded & BACKENDS


@pytest.mark.parametrize("folders", [["compiler/ir"], ["compiler/ir", "compiler/passes"]])
def test_the_ir_and_the_passes_load_numpy_only(folders: list[str]) -> None:
    loaded = loaded_after(modules_of(*folders))
    assert "mochi_aot.compiler.ir.ops" in loaded
    assert not {name.split(".")[0] for name in loaded} & installed_libraries()


def installed_libraries() -> set[str]:
    """Top-level modules of the installed libraries, but for numpy and what starts up with Python in an environment."""
    return set(packages_distributions()) - {"mochi_aot", "numpy", "setuptools", "_distutils_hack"}


RUN_A_BUNDLE = """
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
pipeline = Pipeline.open(Path(sys.argv[1]))
geometry = pipeline.geometry()
prompt, nothing = pipeline.encode_prompt("a red fox"), pipeline.encode_prompt("")
conditioning = pipeline.condition(prompt, nothing, linear_quadratic_sigmas(4, 0.025, 2), 4.5, geometry)
latents = pipeline.denoise(seeded_latents(7, pipeline.latent_shape(geometry)), conditioning)
assert pipeline.decode(latents, geometry).shape[0] == geometry.frames
"""


def test_running_a_bundle_loads_no_model_code(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "b")
    loaded = loaded_after(RUN_A_BUNDLE, str(tmp_path / "b"))
    assert "mochi_aot.runtime.torch" in loaded
    assert not {name for name in loaded if name.split(".")[0] in {"transformers", "diffusers"}}
    assert not {name for name in loaded if name.startswith("mochi_aot.compiler")}
