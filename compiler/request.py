"""Fulfils a request for a bundle, in this process."""

from collections.abc import Sequence

from mochi_aot.compiler.checkpoint import Checkpoint, open_checkpoint
from mochi_aot.compiler.checkpoint.content_record import ContentRecord
from mochi_aot.compiler.checkpoint.wanted import Wanted
from mochi_aot.compiler.compile import compile_bundle
from mochi_aot.compiler.hub.part import local_part
from mochi_aot.compiler.hub.place import local_checkpoint
from mochi_aot.compiler.job import Inputs, Progress, Request, Summary
from mochi_aot.compiler.lora.choice import LoraChoice
from mochi_aot.compiler.lora.lora import read_lora
from mochi_aot.compiler.lora.nearby import loras_beside
from mochi_aot.compiler.lora.place import find_lora
from mochi_aot.compiler.lora.tuned import TunedCheckpoint
from mochi_aot.compiler.profile import Profile, check_profile_place

CONTENTS, PROGRAMS = "contents", "programs"  # folders of the cache
PARTS = ("transformer", "vae", "text_encoder", "tokenizer")  # fields of Inputs, and of Wanted


def compile_request(request: Request, progress: Progress) -> Summary:
    """Open the checkpoint, write the bundle, and then the profile if one is wanted. Raises what `compile` raises."""
    if request.profile is not None:
        check_profile_place(request.profile)
    record = None if request.cache is None else ContentRecord(request.cache / CONTENTS, request.trust_times)
    source = open_inputs(request.inputs, progress, request.check_weights, record)
    tuned = with_loras(source, request.loras, request.check_weights)
    for note in loras_beside(source.folders(), tuned.files if tuned is not None else ()):
        progress.note(note)
    profile = Profile()
    summary = compile_bundle(
        tuned or source,
        request.job,
        request.output,
        request.force,
        progress,
        request.resume,
        request.reuse,
        request.print_ir,
        profile,
        None if request.cache is None else request.cache / PROGRAMS,
    )
    if request.profile is not None:
        profile.write(request.profile)
    return summary


def with_loras(
    checkpoint: Checkpoint, choices: Sequence[LoraChoice], check_weights: bool = True
) -> TunedCheckpoint | None:
    """Return the checkpoint with the LoRAs that were asked for, which are found and read now; None without any.

    Raise LoraError.
    """
    if not choices:
        return None
    loras = [
        read_lora(find_lora(choice.place), checkpoint.config.dit, choice.strength, check_weights) for choice in choices
    ]
    return TunedCheckpoint(checkpoint, loras, check_weights)


def open_inputs(
    inputs: Inputs, progress: Progress, check_weights: bool = True, record: ContentRecord | None = None
) -> Checkpoint:
    """Open the checkpoint that was asked for, fetched from the hub where it is not on this machine.

    Parts may be on the hub, too. `progress` is told what there is to say of it. Raise CheckpointError.
    """
    parts = {name: local_part(name, getattr(inputs, name), inputs.variant, progress) for name in PARTS}
    wanted = Wanted(inputs.layout, inputs.variant, **parts)
    place = local_checkpoint(inputs.checkpoint, inputs.revision, wanted, progress)
    source = open_checkpoint(place, None, check_weights, record, wanted)
    for note in source.notes:
        progress.note(note)
    return source
