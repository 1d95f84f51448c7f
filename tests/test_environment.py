"""Where the command lines must work: as users without a home, in read-only containers, beside other users.

Commands run as a user who is not in the user database; that, and mounts, need root. Without root they run as the user
who runs the tests, and what cannot be had is skipped.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import pytest

from mochi_aot.artifacts import Bundle
from mochi_aot.compiler.checkpoint.presets import BENCH, TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint

IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root, to be another user or to mount")
FIRST, SECOND = (54321, 54322) if IS_ROOT else (os.geteuid(), os.geteuid())
ROOT = Path(__file__).parents[1]
# Everything can be read, as on machines where what is installed belongs to nobody in particular; not written.
READ = "+dac_read_search"
# Arguments: the only folder that can be written to, whether /tmp can too, a command.
READ_ONLY = """
mount --bind "$1" "$1" && if [ "$2" = tmp ]; then mount --bind /tmp /tmp && mount --bind "$1" "$1"; fi &&
mount -o remount,ro,bind / && shift 2 && exec "$@"
"""
NO_PROGRAMS = 'mount -t tmpfs -o noexec,mode=0777 none "$1" && shift && exec "$@"'
SMALL_DISK = 'mount -t tmpfs -o size=4k none "$1" && shift && exec "$@"'
# ttnn has its kernels built by programs: this many small ones are enough.
CONFIG = replace(BENCH, dit=replace(BENCH.dit, layers=2), text=replace(BENCH.text, num_layers=2), vae=TINY.vae)
TARGETS = ("torch", "ttnn")
COMPILE = {
    "torch": ["--target", "torch", "--mesh", "1x2", "--geometry", "64x64x7"],
    "ttnn": ["--target", "ttnn", "--mesh", "2x4", "--geometry", "64x128x13", "--weights-dtype", "bfloat8_b"],
}
DEVICES = {"torch": "cpu", "ttnn": "mock"}


def as_user(user: int) -> list[str]:
    if not IS_ROOT:
        return []
    ids = [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return ["setpriv", *ids, f"--inh-caps={READ}", f"--ambient-caps={READ}"]


def namespace(script: str, *arguments: str | Path, network: bool = True) -> list[str]:
    """Words before a command that mount something for it alone."""
    return ["unshare", "-m", *([] if network else ["-n"]), "sh", "-c", script, "sh", *map(str, arguments)]


def run(
    tool: str,
    *arguments: str | Path,
    variables: Mapping[str, str | Path] | None = None,
    before: list[str] | None = None,
    user: int = FIRST,
    cwd: Path = ROOT,
) -> "subprocess.CompletedProcess[str]":
    """A command line, with these environment variables and no others that say where files belong."""
    ours = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    ours["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ours |= {name: str(value) for name, value in (variables or {}).items()}
    words = [sys.executable, "-m", f"mochi_aot.tools.commands.{tool}", *map(str, arguments)]
    command = [*(before or []), *as_user(user), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ours, cwd=cwd)


def scratch(folder: Path, user: int = FIRST) -> Path:
    """A folder that belongs to this user."""
    folder.mkdir(mode=0o755, parents=True)
    os.chown(folder, user, -1)
    return folder


@pytest.fixture(scope="module")
def open_to_all() -> Iterator[Path]:
    """A folder that other users can look into, which pytest's are not."""
    with TemporaryDirectory(prefix="mochi-tests-environment-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def tmp_path(open_to_all: Path) -> Path:
    """In the place of pytest's."""
    folder = Path(mkdtemp(dir=open_to_all))
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def made(open_to_all: Path) -> Path:
    """Checkpoints and bundles for both targets, made by the user who runs the tests."""
    folder = open_to_all / "été à la mer"
    folder.mkdir()
    write_checkpoint(folder / "torch checkpoint", TINY, "diffusers")
    write_checkpoint(folder / "ttnn checkpoint", CONFIG, "diffusers")
    for target in TARGETS:
        words = ["--checkpoint", folder / f"{target} checkpoint", *COMPILE[target], "-o", folder / target]
        cache = {"MOCHI_CACHE": folder / "first cache", "HOME": "/"}
        done = run("compile", *words, variables=cache, user=os.geteuid())
        assert done.returncode == 0, done.stderr
    return folder


def video(made: Path, target: str, output: Path) -> list[str | Path]:
    return [
        made / target,
        "--device",
        DEVICES[target],
        "--prompt",
        "a fox",
        "--steps",
        "1",
        "--seed",
        "1",
        "-o",
        output,
    ]


def check_all_tools(made: Path, target: str, folder: Path, **options: object) -> None:
    """Compile, verify and run; kernels that another user has built are found, and none is built."""
    words = ["--checkpoint", made / f"{target} checkpoint", *COMPILE[target], "-o", folder / "made bundlé"]
    done = run("compile", *words, **options)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert Bundle.open(folder / "made bundlé").id == Bundle.open(made / target).id
    done = run("verify", made / target, **options)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    check_run(made, target, folder, **options)


def check_run(made: Path, target: str, folder: Path, **options: object) -> None:
    """Run alone: what a host that serves has."""
    done = run("run", *video(made, target, folder / "vidéo 1.mp4"), **options)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert (folder / "vidéo 1.mp4").stat().st_size > 0 and "warning: the bundle's" not in done.stderr
    if target == "ttnn":
        kernels = Bundle.open(made / target).manifest.kernels
        assert kernels is not None and f"kernels: {kernels.count} found, 0 built" in done.stderr


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def one_error(done: "subprocess.CompletedProcess[str]", code: int, pattern: str) -> None:
    """That a command failed with this exit code, and said why in one line."""
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if "error: " in line]
    assert len(errors) == 1 and "Traceback" not in done.stderr, done.stderr
    assert re.search(pattern, errors[0]), errors[0]


def files_of(user: int, folder: Path = Path("/tmp")) -> set[Path]:
    """What a user has at the top of a folder that many write to, and in another one of those."""
    found = set()
    for place in (folder, Path("/var/tmp"), Path("/dev/shm")):
        for path in place.iterdir():
            try:
                found |= {path} if path.lstat().st_uid == user else set()
            except FileNotFoundError:
                continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_names_with_spaces_and_letters_of_all_kinds(target: str, made: Path, tmp_path: Path) -> None:
    folder = scratch(tmp_path / "vidéo's & ü 映画")
    check_all_tools(made, target, folder, variables={"MOCHI_CACHE": folder / "mes caches", "HOME": "/"})
    assert names(folder) == {"mes caches", "made bundlé", "vidéo 1.mp4", "vidéo 1.json"}
    assert list((folder / "mes caches/temporary").glob("*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("home", [None, "/"])
def test_without_a_home(home: str | None, target: str, made: Path, tmp_path: Path) -> None:
    """Files are kept where temporary ones go then, in a folder of the user's own; for torch none are."""
    if home == "/" and not IS_ROOT and os.access("/", os.W_OK):
        pytest.skip("/ can be written to")
    folder = scratch(tmp_path / "out")
    variables = {"TMPDIR": str(folder)} | ({} if home is None else {"HOME": home})
    check_run(made, target, folder, variables=variables)
    if target == "torch":
        assert names(folder) == {"vidéo 1.mp4", "vidéo 1.json"}
    elif IS_ROOT:  # others are in the user database, and have a home
        assert f"mochi-aot-{FIRST}" in names(folder)
        assert (folder / f"mochi-aot-{FIRST}").stat().st_mode & 0o777 == 0o700


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_a_container_that_is_read_only_and_has_no_network(target: str, made: Path, tmp_path: Path) -> None:
    """One folder can be written to; for ttnn /tmp too, where nothing stays."""
    folder, existing = scratch(tmp_path / "out"), files_of(FIRST)
    before = namespace(READ_ONLY, folder, "no" if target == "torch" else "tmp", network=False)
    check_all_tools(made, target, folder, variables={"MOCHI_CACHE": folder / "c", "HOME": "/"}, before=before)
    assert names(folder) == {"c", "made bundlé", "vidéo 1.mp4", "vidéo 1.json"}
    assert files_of(FIRST) == existing


@needs_root
@pytest.mark.slow
def test_ttnn_where_tmp_is_read_only_too(made: Path, tmp_path: Path) -> None:
    folder = scratch(tmp_path / "out")
    variables = {"MOCHI_CACHE": folder / "c", "HOME": "/"}
    words = video(made, "ttnn", folder / "v.mp4")
    done = run("run", *words, variables=variables, before=namespace(READ_ONLY, folder, "no"))
    one_error(done, 7, "ttnn needs to make files in /tmp, whatever TMPDIR is: Read-only file system")
    assert names(folder) == {"c"}


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_a_temporary_folder_that_cannot_be_written(target: str, made: Path, tmp_path: Path) -> None:
    folder = scratch(tmp_path / "out")
    variables = {"MOCHI_CACHE": folder / "c", "HOME": "/", "TMPDIR": "/proc"}
    check_run(made, target, folder, variables=variables)


@needs_root
@pytest.mark.slow
def test_two_users_with_one_cache_folder_find_the_same_kernels(made: Path, tmp_path: Path) -> None:
    """Each has a folder of its own in it: nobody runs what another user has written."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    for user in (FIRST, SECOND):
        folder = scratch(tmp_path / f"out{user}", user)
        check_run(made, "ttnn", folder, variables={"MOCHI_CACHE": shared, "HOME": "/"}, user=user)
    assert names(shared) == {f"user-{FIRST}", f"user-{SECOND}"}
    for user in (FIRST, SECOND):
        place = shared / f"user-{user}"
        assert place.stat().st_mode & 0o777 == 0o700
        assert {path.lstat().st_uid for path in place.rglob("*")} == {user}


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize(
    ("cache", "pattern"),
    [
        ("/nothing/here", "cannot keep files in /nothing/here: .*; set MOCHI_CACHE to a folder that can be written to"),
        ("/etc/passwd", "cannot keep files in /etc/passwd: "),
        (None, r"no folder to keep files in \(.*\), nor one for temporary files; set MOCHI_CACHE to a folder"),
    ],
)
def test_a_cache_folder_that_cannot_be_had(cache: str | None, pattern: str, made: Path, tmp_path: Path) -> None:
    folder = scratch(tmp_path / "out")
    variables = {"HOME": "/"} | ({} if cache is None else {"MOCHI_CACHE": cache})
    before = namespace(READ_ONLY, folder, "no") if cache is None else []
    words = ["--checkpoint", made / "ttnn checkpoint", *COMPILE["ttnn"], "-o", folder / "b"]
    runs = [("run", video(made, "ttnn", folder / "v.mp4")), ("verify", [made / "ttnn"]), ("compile", words)]
    for tool, arguments in runs:
        one_error(run(tool, *arguments, variables=variables, before=before), 7, pattern)
    assert names(folder) == set()
    done = run("run", *video(made, "torch", folder / "v.mp4"), variables=variables, before=before)
    assert done.returncode == 0, "the torch target keeps nothing: " + done.stderr


@needs_root
@pytest.mark.slow
def test_a_cache_folder_where_no_programs_run(made: Path, tmp_path: Path) -> None:
    folder, cache = scratch(tmp_path / "out"), scratch(tmp_path / "cache")
    variables = {"MOCHI_CACHE": cache, "HOME": "/"}
    done = run("run", *video(made, "ttnn", folder / "v.mp4"), variables=variables, before=namespace(NO_PROGRAMS, cache))
    one_error(done, 7, "no programs can be run in .*; set MOCHI_CACHE to a folder where they can")
    assert names(folder) == set()


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_an_output_folder_that_cannot_be_written(target: str, made: Path, tmp_path: Path) -> None:
    variables = {"MOCHI_CACHE": scratch(tmp_path / "cache"), "HOME": "/"}
    mine = tmp_path / "of root"
    mine.mkdir(mode=0o755)
    words = ["--checkpoint", made / f"{target} checkpoint", *COMPILE[target], "-o", mine / "b"]
    for tool, arguments in (("run", video(made, target, mine / "v.mp4")), ("compile", words)):
        one_error(run(tool, *arguments, variables=variables), 7, "of root.*Permission denied")
    assert names(mine) == set()


@needs_root
@pytest.mark.slow
def test_a_full_disk(made: Path, tmp_path: Path) -> None:
    """One line with the name of what could not be written, whoever wrote it: ffmpeg, zstd, safetensors or Python."""
    folder = scratch(tmp_path / "out")
    words = video(made, "torch", folder / "v.mp4")
    runs = [
        ("run", words, "ffmpeg failed on v.mp4 .*: No space left on device"),
        ("run", [*words, "--save-latents", folder / "l.safetensors"], "out/l.safetensors: No space left on device"),
        ("bundle", ["pack", made / "torch", "-o", folder / "b.tar"], "cannot write .*/out/b.tar: No space left"),
        ("checkpoint", [folder / "c", "--preset", "tiny"], "out/c: No space left on device"),
    ]
    for tool, arguments, pattern in runs:
        done = run(tool, *arguments, variables={"HOME": "/"}, before=namespace(SMALL_DISK, folder), user=os.geteuid())
        one_error(done, 7, pattern)
