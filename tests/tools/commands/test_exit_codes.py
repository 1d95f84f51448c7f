"""Every command line is driven to every exit code that it can give, and the documented tables say the same."""

import errno
import importlib
import json
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import mochi_aot
from mochi_aot.artifacts.errors import ExitCode
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.runtime.errors import RefusalError
from mochi_aot.runtime.video import write_video
from mochi_aot.tools.bundle.signing import sign
from mochi_aot.tools.commands.cli import EXIT_CODES
from tests.runtime import toy_bundle
from tests.tools.commands.test_checking_values import written
from tests.ttnn_golden.lowered_model import CONFIG

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/commands.md"
COMMANDS = {
    "mochi-bench": "mochi_aot.tools.commands.bench",
    "mochi-bringup": "mochi_aot.tools.commands.bringup",
    "mochi-bundle": "mochi_aot.tools.commands.bundle",
    "mochi-checkpoint": "mochi_aot.tools.commands.checkpoint",
    "mochi-compile": "mochi_aot.tools.commands.compile",
    "mochi-doctor": "mochi_aot.tools.commands.doctor",
    "mochi-inspect": "mochi_aot.tools.commands.inspect",
    "mochi-run": "mochi_aot.tools.commands.run",
    "mochi-serve": "mochi_aot.tools.commands.serve",
    "mochi-train": "mochi_aot.tools.training.command",
    "mochi-verify": "mochi_aot.tools.commands.verify",
    "contact_sheet": "mochi_aot.tools.commands.contact_sheet",
}
# Good arguments of each, in a folder with the bundle `bundle`, one for ttnn `chips`, the checkpoint `checkpoint` and
# the video `video.mp4`.
GOOD = {
    "mochi-bench": "traffic --config bench --mesh 1x2 --geometry 16x16x7",
    "mochi-bringup": "chips --device mock --step versions -o out",
    "mochi-bundle": "verify bundle --trusted keys.pub",
    "mochi-checkpoint": "out --preset tiny",
    "mochi-compile": "--checkpoint checkpoint --mesh 1x1 --target torch --geometry 16x16x7 -o out",
    "mochi-doctor": "bundle",
    "mochi-inspect": "bundle",
    "mochi-run": "bundle --prompt fox --steps 1 --seed 1 --no-decode --save-latents out",
    "mochi-serve": "bundle --state out --port 0",
    "mochi-train": "export checkpoint out",
    "mochi-verify": "bundle",
    "contact_sheet": "video.mp4 out",
}
# What each calls while it works, which faults and signals are put into. Lookups are by name when the command runs.
CALLED = {
    "mochi-bench": "mochi_aot.compiler.partition.mesh.parse_mesh",
    "mochi-bringup": "mochi_aot.artifacts.reader.Bundle.open",
    "mochi-bundle": "mochi_aot.artifacts.reader.Bundle.open",
    "mochi-checkpoint": "mochi_aot.compiler.checkpoint.synthetic.write_checkpoint",
    "mochi-compile": "mochi_aot.artifacts.writer.BundleWriter.__init__",
    "mochi-doctor": "mochi_aot.artifacts.reader.Bundle.open",
    "mochi-inspect": "mochi_aot.artifacts.reader.Bundle.open",
    "mochi-run": "mochi_aot.artifacts.reader.Bundle.open",
    "mochi-serve": "mochi_aot.tools.serve.service.JobStore",
    "mochi-train": "mochi_aot.tools.training.export.open_models",
    "mochi-verify": "mochi_aot.artifacts.reader.Bundle.open",
    "contact_sheet": "imageio_ffmpeg.get_ffmpeg_exe",
}


@dataclass(frozen=True)
class Case:
    """A command line that ends with a code: arguments, a file that is there before, a package that is not there."""

    command: str
    code: int
    arguments: str
    exists: str = ""
    absent: str = ""
    fault: Callable[[], NoReturn] | None = None


def interrupt() -> NoReturn:
    raise KeyboardInterrupt


def terminate() -> NoReturn:
    stop_by(signal.SIGTERM)


def hang_up() -> NoReturn:
    stop_by(signal.SIGHUP)


def stop_by(number: signal.Signals) -> NoReturn:
    """The first signal stops a command at once, or at its next safe moment; a later one, which is not taken for the
    same wish, stops those too."""
    for _ in range(2):
        signal.raise_signal(number)  # in this thread: os.kill may choose another one
        time.sleep(1.1)
    raise AssertionError(f"{number.name} did nothing")


def disk_full() -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device", "/x")


def bug() -> NoReturn:
    raise ZeroDivisionError("a bug")


def refuse() -> NoReturn:
    raise RefusalError("ttnn has no such op")


EVERYWHERE = [
    Case(command, code, GOOD[command], fault=fault)
    for command in COMMANDS
    for code, fault in ((0, None), (1, bug), (7, disk_full), (129, hang_up), (130, interrupt), (143, terminate))
    if (command, code) != ("mochi-serve", 0)  # which serves until a signal ends it
]
CASES = [
    *EVERYWHERE,
    *(Case(command, 2, f"{GOOD[command]} --no-such-option") for command in COMMANDS),
    Case("mochi-bench", 3, "traffic --config none --mesh 1x1"),
    Case("mochi-bench", 5, "step --size tiny", absent="torch"),
    Case("mochi-bench", 6, "traffic --config bench --mesh 2x4 --geometry 32x32x7"),
    Case("mochi-bringup", 3, "none"),
    Case("mochi-bringup", 4, GOOD["mochi-bringup"], exists="out"),
    Case("mochi-bringup", 5, "bundle -o out"),
    Case("mochi-bundle", 3, "verify none --trusted keys.pub"),
    Case("mochi-bundle", 4, "pack bundle -o out", exists="out"),
    Case("mochi-bundle", 5, GOOD["mochi-bundle"], absent="cryptography"),
    Case("mochi-checkpoint", 3, "file/out", exists="file"),
    Case("mochi-checkpoint", 4, GOOD["mochi-checkpoint"], exists="out"),
    Case("mochi-checkpoint", 5, GOOD["mochi-checkpoint"], absent="torch"),
    Case("mochi-compile", 2, "--checkpoint checkpoint --mesh 1by1 --target torch"),
    Case("mochi-compile", 3, "--checkpoint none --mesh 1x1 --target torch"),
    Case("mochi-compile", 4, GOOD["mochi-compile"], exists="out"),
    Case("mochi-compile", 5, GOOD["mochi-compile"], absent="transformers"),
    Case("mochi-compile", 6, GOOD["mochi-compile"].replace("1x1", "1x64") + " --plan sp0tp1"),
    Case("mochi-doctor", 3, "none"),
    Case("mochi-doctor", 5, "bundle --device mock"),
    Case("mochi-inspect", 3, "none"),
    Case("mochi-inspect", 4, "bundle --sbom out", exists="out"),
    Case("mochi-inspect", 4, "bundle --html out", exists="out"),
    Case("mochi-run", 2, GOOD["mochi-run"] + " --linear-steps 9"),
    Case("mochi-run", 3, GOOD["mochi-run"].replace("bundle", "none")),
    Case("mochi-run", 4, GOOD["mochi-run"], exists="out"),
    Case("mochi-run", 5, GOOD["mochi-run"] + " --device mock"),
    Case("mochi-run", 6, GOOD["mochi-run"], fault=refuse),
    Case("mochi-serve", 3, GOOD["mochi-serve"].replace("bundle", "none")),
    Case("mochi-serve", 5, GOOD["mochi-serve"] + " --device mock"),
    Case("mochi-serve", 5, GOOD["mochi-serve"], absent="uvicorn"),
    Case("mochi-serve", 5, GOOD["mochi-serve"] + " --ui", absent="gradio"),
    Case("mochi-train", 3, "export none out"),
    Case("mochi-train", 4, GOOD["mochi-train"], exists="out"),
    Case("mochi-train", 5, GOOD["mochi-train"], absent="torch"),
    Case("mochi-verify", 3, "none"),
    Case("mochi-verify", 5, "--config checkpoint --mesh 1x1", absent="torch"),
    Case("mochi-verify", 6, GOOD["mochi-verify"], fault=refuse),
    Case("contact_sheet", 3, "none.mp4 out"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what GOOD names."""
    folder = tmp_path_factory.mktemp("inputs")
    toy_bundle.write_bundle(folder / "bundle")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "keys"], check=True)
    sign(Bundle.open(folder / "bundle"), folder / "keys")
    (folder / "chips").symlink_to(written(tmp_path_factory.mktemp("chips"), "add", 1, value=1.0))
    write_checkpoint(folder / "checkpoint", CONFIG, "diffusers", 0, torch.float32)
    write_video(folder / "video.mp4", np.zeros((7, 16, 16, 3), np.uint8))
    return folder


@pytest.fixture
def folder(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh current folder with links to the inputs. Nothing is left in it that is not a result."""
    for path in inputs.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    left = {path.name for path in tmp_path.iterdir()} - {path.name for path in inputs.iterdir()}
    assert left <= {"out", "out.json", "file"}, left


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.command}-{case.code}")
def test_the_exit_code(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = importlib.import_module(COMMANDS[case.command]).main
    if case.exists:
        (folder / case.exists).touch()
    if case.absent:
        with process(folder, case.command, case.arguments, f"import sys; sys.modules[{case.absent!r}] = None") as child:
            _, stderr = child.communicate(timeout=300)
        assert (child.returncode, f"{case.absent} is not installed" in stderr) == (case.code, True), stderr
        return
    if case.fault is not None:
        fault = case.fault
        monkeypatch.setattr(CALLED[case.command], lambda *arguments, **named: fault())
    result = CliRunner().invoke(main, [*case.arguments.split(), *([] if case.code == 2 else ["--log-format", "json"])])
    assert result.exit_code == case.code, (result.output, result.exception)
    if case.code in (0, 2):
        return
    assert result.stdout == ""
    last = json.loads(result.stderr.splitlines()[-1])
    assert last["exit_code"] == case.code and last["message"] and "Traceback" not in result.stderr


# ---- the same with real processes, real signals and a real limit, once a code


def process(folder: Path, command: str, arguments: str, before: str = "") -> subprocess.Popen:
    source = f"{before}\nimport sys\nfrom {COMMANDS[command]} import main\nmain(sys.argv[1:])"
    words = [sys.executable, "-c", source, *arguments.split()]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)


SMALL_FILES = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
NO_TORCH = "import sys\nsys.modules['torch'] = None"
BUG = "import mochi_aot.artifacts.reader as r\nr.Bundle.open = lambda path: 1 // 0"


@pytest.mark.parametrize(
    ("code", "command", "arguments", "before"),
    [
        (0, "mochi-inspect", "bundle --json", ""),
        (1, "mochi-inspect", "bundle", BUG),
        (2, "mochi-inspect", "", ""),
        (3, "mochi-inspect", "none", ""),
        (4, "mochi-checkpoint", "checkpoint", ""),
        (5, "mochi-checkpoint", "out", NO_TORCH),
        (6, "mochi-compile", GOOD["mochi-compile"].replace("1x1", "1x64") + " --plan sp0tp1", ""),
        (7, "mochi-checkpoint", "out", SMALL_FILES),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_a_process(code: int, command: str, arguments: str, before: str, folder: Path) -> None:
    with process(folder, command, arguments, before) as child:
        _, stderr = child.communicate(timeout=300)
    assert child.returncode == code, stderr
    assert "Traceback" not in stderr and (code in (0, 2) or stderr.splitlines()[-1].startswith("error: "))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_is_stopped(number: signal.Signals, code: int, folder: Path) -> None:
    """Its parent sees the code, and it leaves nothing: the fixture looks."""
    with process(folder, "mochi-checkpoint", "out --preset bench") as child:
        assert child.stderr is not None
        assert child.stderr.readline() == "writing the checkpoint\n"
        child.send_signal(number)
        _, stderr = child.communicate(timeout=300)
    assert (child.returncode, stderr.splitlines()[-1]) == (code, "interrupted")
    assert not (folder / "out").exists()


def test_a_reader_that_has_enough(folder: Path) -> None:
    with process(folder, "mochi-inspect", "bundle --json") as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.close()
        stderr = child.stderr.read()
        assert (child.wait(timeout=300), stderr) == (141, "")


# ---- the tables


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading of docs/commands.md, the header left out."""
    text = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in row] for row in rows[2:]]


def test_the_documented_codes_are_those_of_the_code() -> None:
    rows = table("Exit codes")
    assert {int(row[0]): row[1] for row in rows} == {int(code): code.name.lower() for code in ExitCode}
    listed = {int(number) for number in re.findall(r"\b\d+\b", EXIT_CODES)}
    assert listed == {int(code) for code in ExitCode} - {ExitCode.BROKEN_PIPE}


def test_the_documented_codes_of_each_command_are_driven() -> None:
    documented = {(row[0], int(code)) for row in table("Which command gives which") for code in row[1].split(", ")}
    assert documented == {(case.command, case.code) for case in CASES}


def errors_in_the_tree() -> dict[str, type]:
    """Every class of errors that derives from MochiError, found in the sources and imported."""
    found = {}
    package = Path(mochi_aot.__path__[0])
    for path in (
        path for name in ("artifacts", "compiler", "runtime", "tools") for path in (package / name).rglob("*.py")
    ):
        if names := re.findall(
            r"^class (\w+Error)\((?!OSError|RuntimeError)\w*Error\):", path.read_text(), re.MULTILINE
        ):
            module = importlib.import_module("mochi_aot." + ".".join(path.relative_to(package).with_suffix("").parts))
            found |= {name: getattr(module, name) for name in names}
    return found


KINDS = {
    1: {"ResultsDifferError", "ServedError"},
    2: {
        "BusyError",
        "ClosedError",
        "CompileOptionError",
        "GeometryError",
        "MachineError",
        "OptionError",
        "OutputError",
        "PlanTextError",
        "UrlError",
        "RequestError",
    },
    3: {
        "BundleError",
        "CheckpointError",
        "InputFileError",
        "KeysError",
        "LoraError",
        "ModelError",
        "NumbersError",
        "RebuildError",
        "SignatureError",
        "TrainingError",
        "WeightError",
    },
    4: {"BundleExistsError", "CheckpointExistsError", "IRFolderError", "OutputExistsError"},
    5: {
        "BackendError",
        "ExtraMissingError",
        "KernelsError",
        "MockMeshError",
        "MockPlatformError",
        "PackageMissingError",
        "RankError",
        "ServePackageError",
        "TtnnAlreadyImportedError",
        "TtnnMissingError",
    },
    6: {"LoweringError", "PlanError", "RefusalError"},
    7: {
        "CacheError",
        "CompileProcessError",
        "DeviceMemoryError",
        "HubError",
        "OutputFolderError",
        "RemoteError",
        "StateFolderError",
        "StoreError",
        "VideoError",
    },
}


def test_every_kind_of_error_has_its_code() -> None:
    expected = {name: code for code, names in KINDS.items() for name in names}
    found = {name: int(kind.exit_code) for name, kind in errors_in_the_tree().items()}  # type: ignore[attr-defined]
    assert found == expected


def test_every_command_is_here() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert {name: f"{module}:main" for name, module in COMMANDS.items() if name in scripts} == scripts
    assert all(isinstance(importlib.import_module(module).main, click.Command) for module in COMMANDS.values())
