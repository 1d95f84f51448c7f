"""Compiling as one call: `mochi_aot.compile`, of which `mochi-compile` is a thin caller."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from mochi_aot.artifacts.errors import MochiError
from mochi_aot.artifacts.layout import (
    CHECKPOINT_LAYOUTS,
    CHIP_DTYPES,
    DEFAULT_GEOMETRY,
    HOST_DTYPES,
    MODEL_DTYPES,
    WEIGHTS_DTYPES,
)
from mochi_aot.artifacts.machines import Chips, chips_called
from mochi_aot.compiler.child import compile_in_child
from mochi_aot.compiler.errors import CompileOptionError
from mochi_aot.compiler.hub.names import hub_name, part_name
from mochi_aot.compiler.job import Inputs, Job, KernelSummary, ProgramSummary, Progress, Request, Summary
from mochi_aot.compiler.lora.choice import parse_lora
from mochi_aot.compiler.partition.choose import parse_plan
from mochi_aot.compiler.partition.mesh import Mesh, parse_mesh
from mochi_aot.compiler.reference.geometry import Geometry, parse_geometry
from mochi_aot.runtime.cache import cache_folder, ensure_temporary_files

__all__ = ["KernelSummary", "ProgramSummary", "Progress", "Summary", "compile", "default_output"]

TARGETS = ("ttnn", "torch")

type Size = str | Geometry | tuple[int, int, int]


def compile(
    checkpoint: str | Path | None = None,
    *,
    mesh: str | Mesh | None = None,
    arch: str = "wormhole",
    output: str | Path | None = None,
    text_encoder: str | Path | None = None,
    transformer: str | Path | None = None,
    vae: str | Path | None = None,
    tokenizer: str | Path | None = None,
    layout: str | None = None,
    variant: str | None = None,
    revision: str | None = None,
    target: str = "ttnn",
    geometries: Size | Sequence[Size] = (DEFAULT_GEOMETRY,),
    plan: str = "auto",
    dtype: str = "bfloat16",
    text_dtype: str | None = None,
    weights_dtype: str = "bfloat16",
    links_dtype: str = "bfloat16",
    force: bool = False,
    resume: bool = False,
    reuse: str | Path | None = None,
    trust_times: bool = False,
    check_weights: bool = True,
    require_kernels: bool = False,
    with_encoder: bool = False,
    print_ir: str | Path | None = None,
    profile: str | Path | None = None,
    loras: str | Path | Sequence[str | Path] = (),
    progress: Progress | None = None,
    own_process: bool = True,
) -> Summary:
    """Compile a Mochi 1 checkpoint into a bundle for a mesh of devices, and say what was made.

    Args:
        checkpoint: Folder of the checkpoint, in Genmo's or Diffusers' layout; a file that holds all networks; or the id
            of a repository on the Hugging Face hub, as "genmo/mochi-1-preview". None where each part is named.
        mesh: The device mesh, rows x columns: "4x8" or (4, 8); that of the machine, if `arch` names one.
        arch: Of the chips, for ttnn: "wormhole" or "blackhole", or a machine: "n300", "loudbox", "galaxy", "p150",
            "p300", "quietbox2", "bh-loudbox", "bh-galaxy".
        output: Folder of the bundle; beside the checkpoint, with .bundle appended, if not given.
        text_encoder: Folder of the T5 encoder and its tokenizer, for Genmo's layout, which has none, or a file of T5.
            This and the next three may be of a repository on the hub: "OWNER/NAME", "OWNER/NAME/PATH@REVISION".
        transformer: File of the transformer, safetensors or GGUF, or a folder in Diffusers' layout; instead of the
            checkpoint's.
        vae: File of the VAE, or a folder in Diffusers' layout; instead of the checkpoint's.
        tokenizer: Folder of T5's tokenizer; instead of the checkpoint's.
        layout: "genmo" or "diffusers", where a folder or repository holds both.
        variant: Of the weights in Diffusers' layout, as "bf16"; the plain ones, if they are there, unless given.
        revision: Branch, tag or commit of a repository on the hub; its main branch unless given.
        target: "ttnn", Tenstorrent chips, or "torch", this host, for checking.
        geometries: Video sizes, height x width x frames: "480x848x163", (480, 848, 163), or several of them.
        plan: How programs are cut over the mesh: "auto", or plan names separated by commas.
        dtype: "bfloat16" or "float32" (for torch), of weights and activations.
        text_dtype: The same of the text encoder, for torch; `dtype` unless given.
        weights_dtype: Of the matrices: "bfloat16", which for torch means `dtype`; "bfloat8_b", for ttnn; "float8", for
            torch, of the transformer's blocks, whose products then are in float8 too.
        links_dtype: "bfloat16" or "bfloat8_b", of what chips send each other in a denoising step, for ttnn.
        force: Replace a bundle that is there already.
        resume: Use the weights that a compile to the same place finished before it was stopped.
        reuse: A bundle whose weights are shared instead of made again.
        trust_times: With reuse or resume, tell files of the checkpoint that were read before by their times.
        check_weights: Refuse a weight that is not a finite number.
        require_kernels: Refuse to compile for ttnn where this host can build no real kernels.
        with_encoder: Put the VAE's encoder into the bundle, which videos to begin with need.
        print_ir: A folder to which each program's text is written after each pass.
        profile: A file to which seconds of each phase, pass and program are written, as a Chrome trace.
        loras: To merge, each a file, or a repository of the hub, and perhaps a strength: "style.safetensors:0.8".
        progress: Is told what is being done, in the thread that calls.
        own_process: Compile for ttnn in a child process, which ends with this call, and with this process however that
            ends. Without it a compile for ttnn points this process at a mocked mesh, for good: it is refused where
            ttnn was imported before, and no chips can be opened by this process afterwards.

    Raises:
        CompileOptionError: for options that contradict each other, or no mesh.
        MachineError: for an `arch` that is neither an architecture nor a machine.
        GeometryError: before anything is traced, for a size that the model or the mesh has not; it names the nearest.
        PlanError: for a mesh that is none, and for a model that cannot be cut over it.
        CheckpointError: for a checkpoint that is not whole.
        LoraError: for a LoRA that is none, or not one of this model.
        BundleError: where the bundle cannot be written, or exists.
        KernelsError: for require_kernels.
        BackendError: where ttnn cannot be used, or refuses a program.
        CompileProcessError: where the child process was ended by something else, as for want of memory.
    """
    started = time.monotonic()
    if layout is not None:
        _check_choices(("layout", layout, CHECKPOINT_LAYOUTS))
    chosen = (target, weights_dtype, links_dtype, require_kernels, arch, with_encoder, text_dtype)
    job = make_job(mesh, geometries, plan, dtype, *chosen)
    if trust_times and not (resume or reuse):
        raise CompileOptionError("trust-times is about weights that were made before: give it with reuse or resume")
    inputs = make_inputs(checkpoint, text_encoder, transformer, vae, tokenizer, layout, variant, revision)
    request = Request(
        inputs,
        job,
        _path(output) or default_output(checkpoint or transformer),
        force,
        resume,
        _path(reuse),
        trust_times,
        check_weights,
        _path(print_ir),
        _path(profile),
        _cache_folder(trust_times),
        tuple(parse_lora(str(lora)) for lora in ([loras] if isinstance(loras, str | Path) else loras)),
    )
    ensure_temporary_files()
    if job.target == "ttnn" and own_process:
        summary = compile_in_child(request, progress or Progress())
    else:
        from mochi_aot.compiler.request import compile_request  # torch, which needs a place for temporary files

        summary = compile_request(request, progress or Progress())
    return dataclasses.replace(summary, seconds=time.monotonic() - started)


def default_output(checkpoint: str | Path | None) -> Path:
    """Return where a checkpoint's bundle is written unless said otherwise: beside it, also where it is `.` or `..`.

    That of a repository on the hub, or in the hub's cache, is written to the working folder. Raises CompileOptionError
    for the root of the file system, which has nothing beside it, and where no checkpoint was given.
    """
    if checkpoint is None:
        raise CompileOptionError("no checkpoint was given: checkpoint, or transformer, vae and text_encoder")
    if name := hub_name(str(checkpoint)):
        return Path(f"{name}.bundle")
    if not isinstance(checkpoint, Path) and (part := part_name(checkpoint)):
        return Path(f"{Path(part.path or part.repository).stem}.bundle")
    path = Path(checkpoint)
    if path.name in ("", ".."):
        path = path.resolve()
    if not path.name:
        raise CompileOptionError(f"no bundle can be written beside {path}: give an output")
    return path.with_name((path.stem if path.is_file() else path.name) + ".bundle")


def make_inputs(
    checkpoint: str | Path | None,
    text_encoder: str | Path | None = None,
    transformer: str | Path | None = None,
    vae: str | Path | None = None,
    tokenizer: str | Path | None = None,
    layout: str | None = None,
    variant: str | None = None,
    revision: str | None = None,
) -> Inputs:
    """Return what is read, as options name it. A Path is never the hub's."""
    root = str(checkpoint.absolute()) if isinstance(checkpoint, Path) else checkpoint
    parts = _part(text_encoder), _part(transformer), _part(vae), _part(tokenizer)
    return Inputs(root, *parts, layout, variant, revision)


def make_job(
    mesh: str | Mesh | None,
    geometries: Size | Sequence[Size],
    plan: str,
    dtype: str,
    target: str,
    weights_dtype: str,
    links_dtype: str,
    require_kernels: bool = False,
    arch: str = "wormhole",
    with_encoder: bool = False,
    text_dtype: str | None = None,
) -> Job:
    """Return the job that options describe.

    Raises CompileOptionError for options that do not go together, PlanError and GeometryError for texts that say
    nothing.
    """
    _check_choices(("target", target, TARGETS), ("dtype", dtype, MODEL_DTYPES))
    _check_choices(("text-dtype", text_dtype or dtype, MODEL_DTYPES))
    _check_choices(("weights-dtype", weights_dtype, WEIGHTS_DTYPES), ("links-dtype", links_dtype, CHIP_DTYPES))
    if target == "ttnn" and dtype != "bfloat16":
        raise CompileOptionError(f"dtype {dtype} is for target torch; chips compute in bfloat16")
    if target == "ttnn" and text_dtype not in (None, dtype):
        raise CompileOptionError(f"text-dtype {text_dtype} is for target torch; chips compute in bfloat16")
    _check_narrow(target, dtype, weights_dtype, links_dtype)
    if target == "torch" and require_kernels:
        raise CompileOptionError("require-kernels is for target ttnn; torch needs no kernels")
    sizes = tuple(dict.fromkeys(_parsed(size) for size in _several(geometries)))
    if not sizes:
        raise CompileOptionError("no geometry was given: a bundle is for one video size or more")
    chips = chips_called(arch)
    if target == "torch" and chips != chips_called("wormhole"):
        raise CompileOptionError(f"arch {arch} is for target ttnn; torch runs on this host")
    shape = _mesh(mesh, chips)
    return Job(
        shape,
        sizes,
        parse_plan(plan),
        dtype,
        target,
        weights_dtype,
        links_dtype,
        chips.arch,
        require_kernels,
        with_encoder,
        text_dtype,
    )


def _check_narrow(target: str, dtype: str, weights_dtype: str, links_dtype: str) -> None:
    """Raise CompileOptionError for dtypes of matrices and links that a target, or another dtype, does not go with."""
    if target == "torch" and links_dtype != "bfloat16":
        raise CompileOptionError(f"links-dtype {links_dtype} is for target ttnn; torch has dtype alone")
    known = CHIP_DTYPES if target == "ttnn" else HOST_DTYPES
    if weights_dtype not in known:
        raise CompileOptionError(
            f"weights-dtype {weights_dtype} is not for target {target}, which has {' or '.join(known)}"
        )
    if weights_dtype == "float8" and dtype != "bfloat16":
        raise CompileOptionError(f"weights-dtype float8 is for dtype bfloat16, in which its products are; not {dtype}")


def _mesh(mesh: str | Mesh | None, chips: Chips) -> Mesh:
    """Return the mesh that was asked for, or else the machine's. Raise CompileOptionError where there is neither."""
    if mesh is not None:
        return parse_mesh(mesh if isinstance(mesh, str) else "x".join(map(str, mesh)))
    if chips.mesh is None:
        raise CompileOptionError("no mesh was given: mesh 2x4, or arch with a machine's name")
    return chips.mesh


def _check_choices(*options: tuple[str, str, Sequence[str]]) -> None:
    for name, value, choices in options:
        if value not in choices:
            raise CompileOptionError(f"{name} {value!r} is not one of {', '.join(choices)}")


def _several(geometries: Size | Sequence[Size]) -> Sequence[Size]:
    """Return one size, or several, as several."""
    if isinstance(geometries, str | Geometry):
        return [geometries]
    if len(geometries) == 3 and all(isinstance(number, int) for number in geometries):
        return [geometries]  # type: ignore[list-item]  # one tuple of three numbers
    return geometries  # type: ignore[return-value]


def _parsed(size: Size) -> Geometry:
    if isinstance(size, Geometry):
        return size
    return parse_geometry(size if isinstance(size, str) else "x".join(map(str, size)))


def _part(place: str | Path | None) -> Path | None:
    return place.absolute() if isinstance(place, Path) else _path(place)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _cache_folder(trust_times: bool) -> Path | None:
    """Return where is kept, for this user, what was read of checkpoints and made of them; None if there is no place.

    Raises CacheError instead for `trust_times`, which needs it.
    """
    try:
        return cache_folder()
    except MochiError:
        if trust_times:
            raise
        return None
