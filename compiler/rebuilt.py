"""A bundle's programs compiled again from the sizes that its manifest records, which tells what the bundle does not:
the tensors between instructions, and with them memory over time, modelled seconds by kind of op, and other plans."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from mochi_aot.artifacts import schema
from mochi_aot.artifacts.errors import ExitCode, MochiError
from mochi_aot.artifacts.machines import WORMHOLE
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.roles import ENCODE
from mochi_aot.compiler.compile import chosen_plans, compile_program
from mochi_aot.compiler.explain import Explanation
from mochi_aot.compiler.from_config import SeededSource
from mochi_aot.compiler.ir.program import Op, Program
from mochi_aot.compiler.job import Job
from mochi_aot.compiler.lower.target import FormedParam, Target
from mochi_aot.compiler.lower.torch import TorchTarget
from mochi_aot.compiler.lower.torch import lower as lower_for_torch
from mochi_aot.compiler.lower.torch_seconds import seconds as torch_seconds
from mochi_aot.compiler.lower.ttnn.chip_constants import Machine, machine_of
from mochi_aot.compiler.lower.ttnn.held import bytes_over_time as chip_bytes_over_time
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer
from mochi_aot.compiler.lower.ttnn.program import lower as lower_for_ttnn
from mochi_aot.compiler.lower.ttnn.seconds import Call, calls_of, instruction_seconds, kind_of
from mochi_aot.compiler.lower.ttnn.target import TtnnTarget
from mochi_aot.compiler.lower.ttnn.traffic import held_bytes, sent_bytes
from mochi_aot.compiler.lower.weights import CONSTANT
from mochi_aot.compiler.partition.cost import bytes_sent, cost_of
from mochi_aot.compiler.partition.liveness import bytes_over_time
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.programs import build_module, build_programs
from mochi_aot.compiler.reference.config import DiTConfig, MochiConfig, TextConfig, VAEConfig
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.reference.traced_modules import TRACED_MODULES

MAX_SIZE = 1 << 17  # of any number in a model's configuration; of layers there are at most as many as weights
MAX_LIST = 64


class RebuildError(MochiError):
    """A bundle whose programs this compiler does not make: of another version, or of other sizes than it says."""

    exit_code = ExitCode.INPUT


@dataclass(frozen=True)
class KindCost:
    """Ops of one kind in one run of a program, on one device: how many, bytes that they read and write of its memory,
    bytes that they send to others, modelled seconds."""

    kind: str
    ops: int
    moved_bytes: int
    sent_bytes: int
    seconds: float


@dataclass(frozen=True)
class Rebuilt:
    """What is modelled of a program. `memory` has the bytes alive before the first instruction, then during each;
    `kinds` are in the order of their seconds, the most first."""

    memory: list[int]
    kinds: list[KindCost]

    @property
    def seconds(self) -> float:
        """Of all kinds."""
        return sum(kind.seconds for kind in self.kinds)


class Rebuilder:
    """Compiles the programs of one geometry of a bundle again."""

    def __init__(self, manifest: schema.Manifest, geometry: schema.Geometry) -> None:
        """Trace the model. Raise RebuildError for a configuration that is none, and GeometryError."""
        rows, columns = manifest.mesh
        self._manifest, self._mesh = manifest, (rows, columns)
        self._size = Geometry(geometry.height, geometry.width, geometry.frames)
        config = model_config(manifest)
        with_encoder = ENCODE in geometry.programs
        source = SeededSource(config)
        self._traced = build_programs(
            config, self._size, manifest.dtype, source, with_encoder=with_encoder, text_dtype=_text_dtype(manifest)
        )
        self._arch = _arch(manifest)
        self._target = _target(manifest)

    def explain(self) -> Explanation:
        """Return the plans that a compile for the bundle's mesh considers. Raise PlanError where none works."""
        manifest, target = self._manifest, self._target
        job = Job(
            self._mesh,
            (self._size,),
            dtype=manifest.dtype,
            text_dtype=_text_dtype(manifest),
            target=manifest.target,
            weights_dtype=manifest.weights_dtype,
            links_dtype=manifest.links_dtype,
            arch=self._arch,
        )
        choice = chosen_plans([self._traced], self._mesh, (), target)
        return Explanation(job, choice, target.memory_bytes(self._mesh))

    def program(self, role: str, program: schema.Program) -> Rebuilt:
        """Return what is modelled of the bundle's program of a role. Raise RebuildError if another program comes out.

        Raise PlanError and LoweringError as a compile does.
        """
        source, plan = self._traced.get(role), self._plan(role, program.plan)
        if source is None or plan is None:
            raise RebuildError(f"{role}, plan {program.plan}: this compiler has no such program or plan")
        made = compile_program(source, self._mesh, plan, self._target)
        if isinstance(self._target, TorchTarget):
            _check_same(role, program, lower_for_torch(made.program, plan.name, made.cost))
            return Rebuilt(bytes_over_time(made.program), _torch_kinds(made.program))
        manifest = self._manifest
        lowerer = Lowerer(made.program, self._mesh, manifest.weights_dtype, manifest.links_dtype, self._arch)
        lowered = lower_for_ttnn(lowerer, plan.name, made.cost)
        _check_same(role, program, lowered.program)
        machine: Machine = machine_of(self._mesh, self._arch)
        memory = chip_bytes_over_time(lowered.program, lowered.tensors, machine)
        calls = calls_of(lowered.program.instructions, lowered.tensors, self._mesh, machine)
        return Rebuilt(memory, _ttnn_kinds(calls, traced=role == "denoise"))

    def _plan(self, role: str, name: str) -> Plan | None:
        return _plan(self._target, role, name)


class TransformerWeights:
    """What the weights of a bundle's transformer are made of."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle, self._config = bundle, model_config(bundle.manifest)

    def params(self) -> Iterator[FormedParam]:
        """Yield each weight once. Raise RebuildError if this compiler makes other programs than the bundle's."""
        manifest, target = self._bundle.manifest, _target(self._bundle.manifest)
        rows, columns = manifest.mesh
        (unit,) = (unit for unit in TRACED_MODULES if unit.name == "denoise")
        for geometry in manifest.geometries:
            size = Geometry(geometry.height, geometry.width, geometry.frames)
            built = build_module(unit, self._config, size, manifest.dtype, SeededSource(self._config))
            for role, source in built.items():
                program = self._bundle.program(role, geometry)
                plan = _plan(target, role, program.plan)
                if plan is None:
                    raise RebuildError(f"{role}, plan {program.plan}: this compiler has no such plan")
                made = compile_program(source, (rows, columns), plan, target)
                lowered = target.lowered(made.program, plan.name, made.cost)
                _check_same(role, program, lowered)
                if _of_checkpoint(program) != _of_checkpoint(lowered):
                    raise RebuildError(f"{role}: this compiler makes other weights than the bundle's")
        yield from target.formed_params()


def _of_checkpoint(program: schema.Program) -> list[schema.ProgramWeight]:
    """Return a program's weights but for constants, some of which are computed from the checkpoint's numbers."""
    return [weight for weight in program.weights if not weight.name.startswith(CONSTANT)]


def _text_dtype(manifest: schema.Manifest) -> str | None:
    """Return the dtype that T5's weights have on hosts; None where there are none, or chips hold them."""
    found = (weight.dtype for weight in manifest.weights if weight.name.startswith("text."))
    return next(found, None) if manifest.target == "torch" else None


def _arch(manifest: schema.Manifest) -> str:
    return manifest.mesh_settings.arch if manifest.mesh_settings else WORMHOLE


def _target(manifest: schema.Manifest) -> Target:
    """Return the target that a bundle was compiled for; nothing is mocked."""
    if manifest.target == "torch":
        return TorchTarget(manifest.weights_dtype)
    return TtnnTarget(manifest.weights_dtype, manifest.links_dtype, arch=_arch(manifest))


def _plan(target: Target, role: str, name: str) -> Plan | None:
    families = [plans for roles, plans in target.families.items() if role in roles]
    return families[0].get(name) if families else None


def model_config(manifest: schema.Manifest) -> MochiConfig:
    """Return the configuration that a manifest's `model` holds. Raise RebuildError where it is none, or is larger than
    the bundle's weights can be for."""
    model, length = manifest.model, manifest.text_length
    config = MochiConfig(
        _part(DiTConfig, model.get("dit")),
        _part(VAEConfig, model.get("vae")),
        _part(TextConfig, model.get("text")),
        length,
    )
    layers = [config.dit.layers, config.text.num_layers, *config.vae.decoder_res, *config.vae.encoder_res]
    if max(layers) > len(manifest.weights):
        raise RebuildError(
            f"the model's configuration has {max(layers)} layers, and the bundle {len(manifest.weights)} weights"
        )
    return config


def _part[C](kind: type[C], values: schema.Plain) -> C:
    fields = {field.name: field.default for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or set(values) != set(fields):
        raise RebuildError(f"the model's configuration is not one of this compiler's: {kind.__name__} has other fields")
    return kind(**{name: _number(f"{kind.__name__}.{name}", values[name], fields[name]) for name in fields})


def _number(name: str, value: schema.Plain, like: Any) -> Any:
    """Return a number, or a tuple of them, of the same type as the default. Raise RebuildError for anything else."""
    if isinstance(like, tuple):
        if not isinstance(value, list) or len(value) > MAX_LIST:
            raise RebuildError(f"the model's configuration has {name} as {type(value).__name__}, expected a list")
        return tuple(_number(name, item, like[0]) for item in value)
    if type(value) is not type(like) or not _usable(value):
        raise RebuildError(f"the model's configuration has {name} outside of what a compiler takes")
    return value


def _usable(value: object) -> bool:
    return 0 < value <= MAX_SIZE if isinstance(value, int) else isinstance(value, float) and abs(value) <= MAX_SIZE


def _check_same(role: str, program: schema.Program, made: schema.Program) -> None:
    """Raise RebuildError unless both have the same instructions on the same values."""

    def lines(of: schema.Program) -> list[tuple[Any, ...]]:
        return [(i.op, i.operands, i.results, i.attrs) for i in of.instructions]

    if program.mesh != made.mesh or lines(program) != lines(made):
        raise RebuildError(
            f"{role}: this compiler makes other instructions than the bundle's, which is of another version"
        )


def _torch_kinds(program: Program) -> list[KindCost]:
    assert program.mesh is not None
    by_kind: dict[str, list[Op]] = {}
    for op in program.ops:
        by_kind.setdefault(op.opcode, []).append(op)
    kinds = []
    for kind, ops in by_kind.items():
        cost = cost_of(Program(program.name, ops=ops, mesh=program.mesh))
        moved = sum(value.type.local_nbytes for op in ops for value in (*op.operands, *op.results))
        sent = sum(bytes_sent(op, program.mesh) for op in ops)
        kinds.append(KindCost(kind, len(ops), moved, sent, torch_seconds(cost)))
    return _most_first(kinds)


def _ttnn_kinds(calls: Iterable[Call], traced: bool) -> list[KindCost]:
    by_kind: dict[str, list[Call]] = {}
    for call in calls:
        by_kind.setdefault(str(kind_of(call)), []).append(call)
    return _most_first(
        KindCost(
            kind,
            len(group),
            round(sum(held_bytes(tensor) for call in group for tensor in (*call.operands, *call.results))),
            sum(sent_bytes(call.op, call.attrs, call.operands, call.mesh) for call in group),
            sum(instruction_seconds(call, traced) for call in group),
        )
        for kind, group in by_kind.items()
    )


def _most_first(kinds: Iterable[KindCost]) -> list[KindCost]:
    return sorted(kinds, key=lambda kind: (-kind.seconds, -kind.moved_bytes, kind.kind))
