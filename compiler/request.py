"""Fulfils a request for a bundle, in this process."""

from mochi_aot.compiler.checkpoint import Checkpoint, open_checkpoint
from mochi_aot.compiler.checkpoint.content_record import ContentRecord
from mochi_aot.compiler.checkpoint.wanted import Wanted
from mochi_aot.compiler.compile import compile_bundle
from mochi_aot.compiler.hub.place import local_checkpoint
from mochi_aot.compiler.job import Inputs, Progress, Request, Summary
from mochi_aot.compiler.profile import Profile, check_profile_place


def compile_request(request: Request, progress: Progress) -> Summary:
    """Open the checkpoint, write the bundle, and then the profile if one is wanted. Raises what `compile` raises."""
    if request.profile is not None:
        check_profile_place(request.profile)
    record = None if request.contents is None else ContentRecord(request.contents, request.trust_times)
    source = open_inputs(request.inputs, progress, request.check_weights, record)
    profile = Profile()
    summary = compile_bundle(
        source,
        request.job,
        request.output,
        request.force,
        progress,
        request.resume,
        request.reuse,
        request.print_ir,
        profile,
    )
    if request.profile is not None:
        profile.write(request.profile)
    return summary


def open_inputs(
    inputs: Inputs, progress: Progress, check_weights: bool = True, record: ContentRecord | None = None
) -> Checkpoint:
    """Open the checkpoint that was asked for, fetched from the hub where it is not on this machine.

    `progress` is told what there is to say of it. Raise CheckpointError.
    """
    wanted = Wanted(
        inputs.layout, inputs.variant, inputs.transformer, inputs.vae, inputs.text_encoder, inputs.tokenizer
    )
    place = local_checkpoint(inputs.checkpoint, inputs.revision, wanted, progress)
    source = open_checkpoint(place, None, check_weights, record, wanted)
    for note in source.notes:
        progress.note(note)
    return source
