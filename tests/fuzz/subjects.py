"""What is fuzzed: for each kind of input what reads it, how it is taken apart, and files to start from.

The only exceptions that may come out are the project's own, MochiError and OSError; `Subject.run` swallows these.
"""

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from mochi_aot.artifacts.envelope import pack, unpack
from mochi_aot.artifacts.errors import MochiError
from mochi_aot.artifacts.journal import NAME as JOURNAL
from mochi_aot.artifacts.journal import read_journal
from mochi_aot.artifacts.kernel_archive import pack_kernels, unpack_kernels
from mochi_aot.artifacts.layout import MANIFEST_MAGIC, MANIFEST_PATH, PROGRAM_MAGIC
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import (
    Attr,
    Instruction,
    Manifest,
    Program,
    ProgramInput,
    ProgramOutput,
    ProgramStats,
    TensorSpec,
)
from mochi_aot.artifacts.validate import check_manifest, check_program_fits
from mochi_aot.artifacts.validate_program import check_program
from mochi_aot.compiler.checkpoint.diffusers_config import read_dit_config, read_vae_config
from mochi_aot.compiler.checkpoint.json_config import JsonConfig
from mochi_aot.compiler.checkpoint.stored_dtypes import STORED
from mochi_aot.compiler.checkpoint.tensor_file import TensorFile
from mochi_aot.compiler.checkpoint.text_encoder import read_text_config
from mochi_aot.runtime.job import Job, check_options, outputs
from mochi_aot.runtime.kept import open_denoised
from mochi_aot.runtime.programs import check_wiring, verify_programs
from mochi_aot.runtime.residency import all_weights_fit
from mochi_aot.runtime.safetensors_file import read_header, read_tensor
from mochi_aot.runtime.sweep import read_sweep
from mochi_aot.runtime.tensor_files import check_latents_file, check_prompt_file, load_latents_file, load_prompt_file
from mochi_aot.runtime.tokenizer import PromptTokenizer
from mochi_aot.runtime.torch.backend import TorchBackend
from mochi_aot.runtime.torch.collectives import COLLECTIVES
from mochi_aot.runtime.torch.kernels import KERNELS
from mochi_aot.tools.commands.bundle_report import describe
from mochi_aot.tools.commands.listing import listing
from tests.artifacts.samples import write_cache
from tests.fuzz import fine_tunes, forms
from tests.fuzz.forms import Form
from tests.runtime import toy_bundle

_ATTRS: dict[str, Attr] = {"dim": 1, "dims": [0, 1], "axis": 0, "value": 1.0, "scale": 0.5, "eps": 1e-6, "chunk": 2}
_ATTRS |= {
    "valid": [],
    "size": 4,
    "shape": [1, 2, 4, 4],
    "padding": [0, 0, 0],
    "keepdim": True,
    "groups": 1,
    "stride": 1,
}
_ATTRS |= {"start": 0, "stop": 1, "min": 0.0, "max": 1.0, "dtype": "float32", "causal": False, "sizes": [1, 1]}
_SMALL = 1 << 16  # elements of an input with which a program is run


@dataclass(frozen=True)
class Subject:
    """A kind of input."""

    read: Callable[[bytes], None]
    form: Form
    seeds: Callable[[], list[bytes]]

    def run(self, data: bytes) -> bool:
        """Read a file. Return whether it was accepted; raise what is no error of the project's own."""
        try:
            self.read(data)
        except (MochiError, OSError):
            return False
        return True


@cache
def scratch() -> Path:
    """Return a folder for files, which is removed when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="mochi-fuzz-", dir=_memory(), ignore_cleanup_errors=True)
    scratch.__dict__["keep"] = folder
    return Path(folder.name)


def _memory() -> str | None:
    """Return a folder in memory, where there is one: a disk would take most of the time."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _file(name: str, data: bytes) -> Path:
    path = scratch() / name
    path.write_bytes(data)
    return path


@cache
def _folder(name: str) -> Path:
    path = scratch() / name
    path.mkdir()
    return path


@cache
def toy() -> Bundle:
    """Return the toy bundle; its programs are read once."""
    path = scratch() / "toy.bundle"
    toy_bundle.write_bundle(path)
    bundle = Bundle.open(path)
    verify_programs(bundle)
    return bundle


def _read_manifest(data: bytes) -> None:
    """Read a manifest as if it were the toy bundle's, with its programs; describe it, as people and as JSON."""
    manifest = unpack(MANIFEST_MAGIC, Manifest, data, "m")
    check_manifest(manifest, "m")
    bundle = Bundle(toy().path, manifest, "0" * 64)
    for as_json in (False, True):
        text = describe(bundle, None, None, False, as_json)
        assert as_json or not set(text) & set("\x1b\r\x00")
    describe(bundle, None, None, True, False)
    verify_programs(bundle)
    for geometry in manifest.geometries:
        all_weights_fit(bundle, geometry, 1 << 34)


def _read_program(data: bytes) -> None:
    """Read a program as one of the toy bundle's, print it, and run it on torch where its inputs are small."""
    program = unpack(PROGRAM_MAGIC, Program, data, "p")
    check_program(program, "p")
    with suppress(MochiError):
        check_wiring({"decode": program})
    manifest = toy().manifest
    check_program_fits(program, manifest, "p")
    listing(program, toy().weights)
    backend = TorchBackend(*manifest.mesh)
    backend.load_weights(toy(), [weight.name for weight in program.weights])
    executable = backend.load_program(program)
    if all(max(prod(item.spec.shape), prod(item.spec.local_shape)) <= _SMALL for item in program.inputs):
        arrays = {item.name: np.zeros(item.spec.shape, _held(item.spec.dtype)) for item in program.inputs}
        values = executable.run({item.name: backend.upload(arrays[item.name], item.spec) for item in program.inputs})
        for item in program.outputs:
            backend.fetch(values[item.name], item.spec)


def _held(dtype: str) -> np.dtype[np.generic]:
    from mochi_aot.artifacts.dtypes import held_dtype

    return held_dtype(dtype)


def _read_kernels(data: bytes) -> None:
    """Unpack an archive; no more may be written than there is in it, and nothing beside the folder."""
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        cache_folder = Path(folder, "inside")
        try:
            unpack_kernels(_file("a.tar", data), cache_folder)
        finally:
            assert {path.name for path in Path(folder).iterdir()} <= {"inside"}
            assert sum(path.stat().st_size for path in cache_folder.rglob("*") if path.is_file()) <= len(data)


def _read_tensors(data: bytes) -> None:
    path = _file("a.safetensors", data)
    for read in (_read_all, _read_prompts, _read_latents, _read_checkpoint_file):
        with suppress(MochiError):
            read(path)


def _read_all(path: Path) -> None:
    for entry in read_header(path).values():
        read_tensor(path, entry)


def _read_prompts(path: Path) -> None:
    load_prompt_file(check_prompt_file(path, [1, 2, 3]))


def _read_latents(path: Path) -> None:
    denoised = open_denoised(path)
    load_latents_file(path, denoised.entry)
    check_latents_file(path, [1, 2, 3])


def _read_checkpoint_file(path: Path) -> None:
    file = TensorFile(path)
    for key, entry in file.tensors.items():
        if entry.dtype in STORED and entry.shape and entry.nbytes:  # the others are refused by what opens a checkpoint
            file.read_rows(key, 0, entry.shape[0])
    file.check_unchanged()


def _read_sweep(data: bytes) -> None:
    for _, job in read_sweep(_file("a.jsonl", data), Job()):
        with suppress(MochiError):
            check_options(job)
            [path.exists() for path in outputs(job)]


def _read_journal(data: bytes) -> None:
    folder = scratch() / "attempt"
    folder.mkdir(exist_ok=True)
    (folder / JOURNAL).write_bytes(data)
    for weight in read_journal(folder):
        assert all(folder in part.place.parents for part in weight.parts)


def _read_tokenizer(data: bytes) -> None:
    tokenizer = PromptTokenizer(data, 8, toy_bundle.VOCABULARY)
    for prompt in ("a red fox", "the snow " * 9, "\U0001f98a\u0301 blurry"):
        ids, mask = tokenizer.encode(prompt)
        assert ids.shape == mask.shape == (1, 8)
        assert 0 <= ids.min() <= ids.max() < toy_bundle.VOCABULARY
        tokenizer.cut(prompt)


def _read_config(data: bytes) -> None:
    config = JsonConfig.read(_file("config.json", data))
    for read in (read_dit_config, read_vae_config, read_text_config):
        with suppress(MochiError):
            read(config)


def _manifests() -> list[bytes]:
    return [(toy().path / MANIFEST_PATH).read_bytes()]


def _programs() -> list[bytes]:
    mesh = toy().manifest.mesh
    own = [pack(PROGRAM_MAGIC, program, "p") for program in toy_bundle.programs(toy_bundle.SIZES[1], mesh).values()]
    ops = [_one_op(op, count) for op in (*KERNELS, *COLLECTIVES) for count in (1, 2, 3)]
    return [*own, *(pack(PROGRAM_MAGIC, program, "p") for program in ops)]


def _one_op(op: str, count: int) -> Program:
    """Return a program of one instruction, with attributes of all names that any op has."""
    spec = TensorSpec("float32", [1, 2, 4, 4], [1, 2, 4, 4], [None, None])
    inputs = [ProgramInput(f"x{index}", index, spec, "latent") for index in range(count)]
    operands = list(range(count))
    instruction = Instruction(op, operands, [count], dict(_ATTRS), operands, "")
    outputs = [ProgramOutput("y", count, spec)]
    return Program("decode", [1, 1], "hand", inputs, [], outputs, [instruction], ProgramStats(0, 0, 0, {}))


@cache
def _archives() -> list[bytes]:
    caches = scratch() / "cache"
    write_cache(caches)
    long = caches / "key1/kernels" / ("reader_" * 30) / "123/brisc"
    long.mkdir(parents=True)
    (long / "brisc.elf").write_bytes(b"elf")
    pack_kernels(caches, scratch() / "cache.tar")
    return [(scratch() / "cache.tar").read_bytes()]


def _tensors() -> list[bytes]:
    embeds, mask = np.zeros((1, 2, 3), np.float32), np.ones((1, 2), np.bool_)
    latents = {"latents": np.ones((1, 2, 3), np.float32)}
    note = {"mochi_aot": json.dumps({"bundle": "0", "arguments": {"seed": 1}})}
    return [save({"prompt_embeds": embeds, "prompt_attention_mask": mask}), save(latents, note)]


def _sweeps() -> list[bytes]:
    lines = [
        {"prompt": "a fox", "seed": 7, "output": "fox.mp4", "steps": 4, "guidance-scale": [1.0, 2, 3, 4.5]},
        {"prompt": "b", "sigmas": [1.0, 0.5, 0.0], "fps": 24, "num_frames": 7, "no-decode": True, "save-latents": "x"},
    ]
    return ["\n".join(map(json.dumps, lines)).encode()]


def _journals() -> list[bytes]:
    line = ["source", "name", "float32", [4, 6], [["weights/x.bin", 0, 96, "0" * 64]], [0, 0]]
    return [forms.JOURNAL.build([line, line])]


def _configs() -> list[bytes]:
    from mochi_aot.compiler.checkpoint.diffusers_config import dit_fields, vae_fields
    from mochi_aot.compiler.checkpoint.text_encoder import text_fields
    from mochi_aot.compiler.reference.config import MochiConfig

    config = MochiConfig()
    fields = [dit_fields(config.dit, 256), vae_fields(config.vae), text_fields(config.text)]
    return [json.dumps(item).encode() for item in fields]


SUBJECTS = {
    "manifest": Subject(_read_manifest, forms.MANIFEST, _manifests),
    "program": Subject(_read_program, forms.PROGRAM, _programs),
    "kernels": Subject(_read_kernels, forms.TAR, _archives),
    "safetensors": Subject(_read_tensors, forms.TENSORS, _tensors),
    "sweep": Subject(_read_sweep, forms.LINES, _sweeps),
    "journal": Subject(_read_journal, forms.JOURNAL, _journals),
    "tokenizer": Subject(_read_tokenizer, forms.JSON, lambda: [toy_bundle.tokenizer_json()]),
    "config": Subject(_read_config, forms.JSON, _configs),
    "delta": Subject(lambda data: fine_tunes.read_delta(_folder("tuned"), data), forms.DELTA, fine_tunes.deltas),
    "lora": Subject(
        lambda data: fine_tunes.read_lora_file(_file("l.safetensors", data)), forms.TENSORS, fine_tunes.loras
    ),
    "gguf": Subject(lambda data: fine_tunes.read_gguf(_file("a.gguf", data)), forms.GGUF, fine_tunes.ggufs),
}
