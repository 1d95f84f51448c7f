"""A minute of fuzzing, the same at each run; `python -m tests.fuzz.run KIND` goes on for as long as is wanted."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mochi_aot.artifacts.errors import BundleError
from tests.fuzz import forms, run
from tests.fuzz.corpus import corpus
from tests.fuzz.mutations import MAX_BYTES, mutated
from tests.fuzz.subjects import SUBJECTS, Subject

# Changed files of each kind: what takes about four seconds.
RUNS = {
    "manifest": 2000,
    "program": 3000,
    "kernels": 2500,
    "safetensors": 5000,
    "sweep": 3000,
    "journal": 2500,
    "tokenizer": 3000,
    "config": 3000,
    "delta": 1500,
    "lora": 2000,
    "gguf": 1500,
}
ROOM = 4 << 30  # bytes that a claim of a file may take before the allocator refuses


@pytest.fixture(autouse=True, scope="module")
def _bounded_memory() -> Iterator[None]:
    """A tensor of a size that a program asks for is an error of torch, and not the end of the machine's memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_every_kind_is_fuzzed_and_has_a_corpus() -> None:
    assert RUNS.keys() == SUBJECTS.keys()
    assert all(corpus(kind) for kind in SUBJECTS)


@pytest.mark.parametrize("kind", SUBJECTS)
def test_what_fuzzing_starts_from_is_read(kind: str) -> None:
    """Or else all changes would be refused for one reason; taken apart and put together it is read, too."""
    subject = SUBJECTS[kind]
    seeds = subject.seeds()
    for seed in seeds if kind != "program" else seeds[:6]:  # the others are of one op each, and may not fit it
        subject.read(seed)
        subject.read(subject.form.build(subject.form.parse(seed)))
        assert len(seed) <= MAX_BYTES


@pytest.mark.parametrize("kind", SUBJECTS)
def test_files_that_once_broke_something(kind: str) -> None:
    for data in corpus(kind).values():
        SUBJECTS[kind].run(data)


@pytest.mark.parametrize("kind", SUBJECTS)
def test_changed_files_raise_nothing_but_the_projects_errors(kind: str) -> None:
    subject = SUBJECTS[kind]
    pool = [*subject.seeds(), *corpus(kind).values()]
    for number in range(RUNS[kind]):
        subject.run(mutated(pool[number % len(pool)], subject.form, number))


def trees() -> st.SearchStrategy[Any]:
    leaf = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=8)
    return st.recursive(leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))


@pytest.mark.parametrize("kind", ["manifest", "program", "sweep", "journal", "tokenizer", "config", "delta"])
def test_any_tree_raises_nothing_but_the_projects_errors(kind: str) -> None:
    subject = SUBJECTS[kind]
    shape = st.lists(trees(), max_size=3) if subject.form in (forms.LINES, forms.JOURNAL) else trees()

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(shape)
    def check(tree: Any) -> None:
        subject.run(subject.form.build(tree))

    check()


def test_a_fault_is_found_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project's own errors are none."""

    def read(data: bytes) -> None:
        if data.startswith(b"own"):
            raise BundleError("own")
        if data.startswith(b"key"):
            raise KeyError(data)

    said: list[str] = []
    monkeypatch.setitem(SUBJECTS, "planted", Subject(read, forms.JSON, list))
    monkeypatch.setattr(run.Counter, "say", lambda self, text: said.append(text))
    counter = run.Counter("planted", tmp_path / "crashes")
    for data in (b"good", b"own", b"key 1", b"key 2"):
        counter.run(data)
    (path,) = (tmp_path / "crashes").iterdir()
    assert path.read_bytes() == b"key 1"
    assert (counter.runs, counter.accepted, len(counter.faults), len(said)) == (4, 1, 1, 1)
    assert said[0].startswith("KeyError at test_fuzz.py:")


WITHOUT_ATHERIS = """
import runpy, sys
sys.modules["atheris"] = None
runpy.run_module("tests.fuzz.run", run_name="__main__", alter_sys=True)
"""


def test_without_atheris_changes_are_random(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_ATHERIS, "manifest", "--seconds", "0.2", "--crashes", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("manifest: ") and done.stderr.endswith(" 0 faults\n")
    assert int(done.stderr.split()[1]) > 0
