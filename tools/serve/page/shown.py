"""What the page shows of jobs, as HTML: how one gets on, its video, and the last ones. Nothing of Gradio is here."""

from collections.abc import Sequence
from html import escape

from mochi_aot.tools.serve.page.door import PLACE
from mochi_aot.tools.serve.store import CANCELLED, CANCELLING, COMPLETED, FAILED, StoredJob
from mochi_aot.tools.serve.worker import Progress

_PHASES = {"wait": "waits in the queue", "encode": "reads the prompt", "decode": "decodes the video"} | {
    "write": "writes the video",
    CANCELLING: "stops after this step",
}
_ENDED = {COMPLETED: "done", CANCELLED: "cancelled", FAILED: "failed"}

ICON = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><path fill="#f97316" d="M1 0l7 4-7 4z"/></svg>'
STYLE = """
.mochi-progress progress {width: 100%; height: .6rem; appearance: none; border: 0; border-radius: 1rem;
  overflow: hidden; background: var(--border-color-primary)}
.mochi-progress progress::-webkit-progress-bar {background: var(--border-color-primary)}
.mochi-progress progress::-webkit-progress-value {background: var(--color-accent)}
.mochi-progress progress::-moz-progress-bar {background: var(--color-accent)}
.mochi-player video {width: 100%; max-height: 70vh; border-radius: var(--radius-lg); background: #000}
.mochi-empty {aspect-ratio: 16 / 9; display: grid; place-items: center; border-radius: var(--radius-lg);
  border: 1px dashed var(--border-color-primary); color: var(--body-text-color-subdued)}
.mochi-links {margin-top: .3rem}
.mochi-links a {color: var(--link-text-color); text-decoration: underline; padding: 0 .3rem}
.mochi-gallery {display: grid; grid-template-columns: repeat(auto-fill, minmax(min(13rem, 100%), 1fr)); gap: 1rem}
.mochi-gallery figure {margin: 0; min-width: 0; color: var(--body-text-color)}
.mochi-gallery video, .mochi-gallery .mochi-empty {width: 100%; aspect-ratio: 16 / 9; object-fit: contain;
  background: #000; border-radius: var(--radius-md)}
.mochi-gallery .mochi-empty {background: none}
.mochi-gallery figcaption {overflow-wrap: anywhere; font-size: var(--text-sm)}
.mochi-gallery p {margin: .2rem 0; display: -webkit-box; -webkit-line-clamp: 3; -webkit-box-orient: vertical;
  overflow: hidden}
.mochi-told {opacity: .75}
"""


def progress_bar(job: StoredJob, progress: Progress) -> str:
    """Return how a job gets on: a bar of its steps, and the words that say it."""
    if job.status in _ENDED:
        words = _ENDED[job.status] if job.error is None else f"{_ENDED[job.status]}: {job.error['message']}"
    else:
        words = _PHASES.get(CANCELLING if job.status == CANCELLING else progress.phase, "makes the video")
        words += f", step {progress.step} of {progress.steps}"
        left = progress.seconds_left
        words += f", {left:.0f} s left" if left and progress.step < progress.steps else ""
    bar = f'<progress aria-label="steps" value="{progress.step}" max="{max(1, progress.steps)}"></progress>'
    return (
        f'<div class="mochi-progress" data-job="{job.id}" data-status="{job.status}">{bar}<p>{escape(words)}</p></div>'
    )


def note(text: str) -> str:
    """Return a line in the place of progress."""
    return f'<p class="mochi-told">{escape(text)}</p>'


def player(job: StoredJob | None) -> str:
    """Return the video of a job with what can be downloaded, or the empty place for it."""
    if job is None or job.status != COMPLETED:
        return '<div class="mochi-player"><div class="mochi-empty">the video comes here</div></div>'
    return (
        f'<div class="mochi-player"><video controls autoplay loop muted playsinline src="{_file(job, "content")}">'
        f"</video>{_links(job)}</div>"
    )


def gallery(jobs: Sequence[StoredJob]) -> str:
    """Return the last jobs, the newest first."""
    if not jobs:
        return note("no videos yet")
    return f'<div class="mochi-gallery">{"".join(map(_figure, jobs))}</div>'


def _figure(job: StoredJob) -> str:
    if job.status == COMPLETED:
        seen = f'<video controls loop muted playsinline preload="metadata" src="{_file(job, "content")}"></video>'
    else:
        seen = f'<div class="mochi-empty">{escape(_ENDED.get(job.status, job.status.replace("_", " ")))}</div>'
    of = job.arguments
    made = f"seed {of['seed']}, {of['num_inference_steps']} steps, {of['width']}x{of['height']}x{of['num_frames']}"
    told = f'<span class="mochi-told">{escape(job.model)}: {escape(made)}</span>'
    links = _links(job) if job.status == COMPLETED else ""
    text = f"<p>{escape(of['prompt'])}</p>{told}{links}"
    return f'<figure data-job="{job.id}">{seen}<figcaption>{text}</figcaption></figure>'


def _links(job: StoredJob) -> str:
    video = f'<a download="{job.id}.mp4" href="{_file(job, "content")}">video</a>'
    record = f'<a download="{job.id}.json" href="{_file(job, "record")}">record</a>'
    return f'<div class="mochi-links">download: {video} {record}</div>'


def _file(job: StoredJob, name: str) -> str:
    return f"{PLACE}/videos/{job.id}/{name}"
