"""Fulfils a request for a bundle, in this process."""

from mochi_aot.compiler.checkpoint import open_checkpoint
from mochi_aot.compiler.checkpoint.content_record import ContentRecord
from mochi_aot.compiler.compile import compile_bundle
from mochi_aot.compiler.job import Progress, Request, Summary
from mochi_aot.compiler.profile import Profile, check_profile_place


def compile_request(request: Request, progress: Progress) -> Summary:
    """Open the checkpoint, write the bundle, and then the profile if one is wanted. Raises what `compile` raises."""
    if request.profile is not None:
        check_profile_place(request.profile)
    record = None if request.contents is None else ContentRecord(request.contents, request.trust_times)
    source = open_checkpoint(request.checkpoint, request.text_encoder, request.check_weights, record)
    for note in source.notes:
        progress.note(note)
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
