"""The page's elements, and what happens when one is used."""

from typing import Any

import gradio as gr

from mochi_aot import __version__
from mochi_aot.tools.serve.page import shown
from mochi_aot.tools.serve.page.handlers import Handlers
from mochi_aot.tools.serve.settings import MAX_PROMPT, MAX_REQUESTS, MAX_STEPS
from mochi_aot.tools.serve.wanted import DEFAULT_FPS

# Nothing moves while a function runs, and nobody but the page calls it.
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def blocks(handlers: Handlers, models: list[str]) -> gr.Blocks:
    """Return the page for bundles of these names."""
    with gr.Blocks(title="mochi-serve", analytics_enabled=False) as page:
        gr.Markdown(f"# mochi-serve\nmochi-aot {__version__}")
        with gr.Row():
            with gr.Column():
                fields = _fields(models)
                with gr.Row():
                    cancel = gr.Button("Cancel", variant="stop", interactive=False, elem_id="cancel")
                    make = gr.Button("Make video", variant="primary", interactive=False, elem_id="make")
            with gr.Column():
                player = gr.HTML(shown.player(None), elem_id="player")
                progress = gr.HTML("", elem_id="progress")
        gr.Markdown("## The last videos")
        gallery = gr.HTML(shown.note("no videos yet"), elem_id="gallery")
        refresh = gr.Button("Look again", size="sm", elem_id="refresh")
        _choose(page, handlers, fields, make)
        # The browser keeps the id: a page that is loaded again watches the video that it asked for before.
        job = gr.BrowserState("", storage_key="mochi-serve-job", secret="the id of a job")
        view = [progress, player, gallery, cancel]
        watching = gr.on([page.load, job.change], handlers.watch, job, view, trigger_mode="multiple", **_QUIET)
        asked = gr.State("")
        queued = make.click(handlers.submit, list(fields.values()), asked, **_QUIET)
        queued.success(lambda name: name, asked, job, cancels=[watching], **_QUIET)
        cancel.click(handlers.cancel, job, None, **_QUIET)
        refresh.click(handlers.gallery, None, gallery, **_QUIET)
    page.queue(max_size=MAX_REQUESTS, default_concurrency_limit=None)
    return page


def _fields(models: list[str]) -> dict[str, Any]:
    """Return the fields in the order of `Handlers.submit`."""
    model = gr.Dropdown(models, value=models[0], label="Model", visible=len(models) > 1, elem_id="model")
    prompt = gr.Textbox(label="Prompt", lines=4, max_length=MAX_PROMPT, elem_id="prompt")
    negative = gr.Textbox(label="Negative prompt", max_length=MAX_PROMPT, elem_id="negative")
    with gr.Row():
        geometry = gr.Dropdown([], label="Size and length", interactive=True, min_width=200, elem_id="geometry")
        fps = gr.Number(DEFAULT_FPS, label="Frames a second", minimum=1, maximum=1000, elem_id="fps")
    with gr.Row():
        steps = gr.Number(label="Steps", precision=0, minimum=1, maximum=MAX_STEPS, elem_id="steps")
        guidance = gr.Number(label="Guidance scale", minimum=0, maximum=100, elem_id="guidance")
        seed = gr.Textbox(label="Seed", placeholder="drawn", max_length=19, elem_id="seed")
    return {
        "model": model,
        "prompt": prompt,
        "negative_prompt": negative,
        "geometry": geometry,
        "steps": steps,
        "guidance_scale": guidance,
        "seed": seed,
        "fps": fps,
    }


def _choose(page: gr.Blocks, handlers: Handlers, fields: dict[str, Any], make: gr.Button) -> None:
    """Fill in what depends on the bundle, when the page comes and when another bundle is chosen."""
    outputs = [fields["geometry"], fields["steps"], fields["guidance_scale"], make]
    gr.on([page.load, fields["model"].change], handlers.settings, fields["model"], outputs, **_QUIET)
