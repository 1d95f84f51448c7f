"""What the page does with a service: asks for a video, watches it, cancels it, lists the last ones."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
from starlette.concurrency import run_in_threadpool

from mochi_aot.tools.serve.errors import RequestError
from mochi_aot.tools.serve.keys import Caller
from mochi_aot.tools.serve.page import shown
from mochi_aot.tools.serve.service import Service
from mochi_aot.tools.serve.store import UNFINISHED, StoredJob
from mochi_aot.tools.serve.wanted import sizes_of

_LAST = 12  # jobs of the gallery
_LOOK = 15.0  # seconds between two looks at a job of which nothing is heard
_PAUSE = 0.25  # seconds at least between two changes that a page is told of: what it shows costs the worker time
_LOADING = 0.5  # seconds between two looks whether a bundle is open


@dataclass(frozen=True)
class View:
    """What a page shows of a job."""

    progress: str
    player: str
    gallery: str
    can_cancel: bool


class Handlers:
    """The functions that Gradio calls; each finds out itself who asks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def settings(self, model: str) -> AsyncIterator[tuple[Any, ...]]:
        """Give the choice of geometries, steps and guidance of a bundle, once it is open."""
        worker = self._service.models[model]
        while (info := worker.info) is None:
            if self._service.is_ending:
                return
            yield gr.skip(), gr.skip(), gr.skip(), gr.Button(f"{model} is being opened", interactive=False)
            await self._service.changes(self._service.version, _LOADING)
        choices = [(_geometry(name), name) for name in info.geometries]
        usual = info.resolve("")
        geometry = gr.Dropdown(choices=choices, value=choices[0][1], interactive=True)
        yield geometry, usual["steps"], usual["guidance-scale"], gr.Button("Make video", interactive=True)

    def submit(
        self,
        model: str,
        prompt: str,
        negative_prompt: str,
        geometry: str | None,
        steps: float | None,
        guidance_scale: float | None,
        seed: str,
        fps: float | None,
        request: gr.Request,
    ) -> str:
        """Queue a video and return its id. Raise Gradio's error, which the page shows, with the API's sentence."""
        fields: dict[str, Any] = {
            "prompt": prompt,
            "negative_prompt": negative_prompt or None,
            "num_inference_steps": steps,
            "guidance_scale": guidance_scale,
            "seed": seed.strip() or None,
            "fps": fps,
        }
        try:
            if not prompt.strip():
                raise RequestError(400, "there is no prompt: write what the video shows")
            info = self._service.models[model].info
            if info is not None and geometry in info.geometries:
                fields |= zip(("height", "width", "num_frames"), sizes_of(geometry), strict=True)
            return self._service.submit(_caller(request), model, fields).id
        except RequestError as error:
            raise gr.Error(escape(str(error)), title="Not queued", print_exception=False) from None

    async def watch(self, name: str, request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        """Give all changes of a job until it has ended, and with each the gallery."""
        last, seen = View("", "", "", False), -1
        while True:
            job, view = await run_in_threadpool(self._view, _caller(request), name)
            if view != last:
                told = (view.progress, view.player, view.gallery)
                before = (last.progress, last.player, last.gallery)
                # A player that is written again starts anew.
                values = [new if new != old else gr.skip() for new, old in zip(told, before, strict=True)]
                yield *values, gr.Button(interactive=view.can_cancel)
                last = view
            if job is None or job.status not in UNFINISHED or self._service.is_ending:
                return
            await asyncio.sleep(_PAUSE)
            await self._service.changes(seen, _LOOK)
            seen = self._service.version

    def cancel(self, name: str, request: gr.Request) -> None:
        """Stop a job; `watch` shows it."""
        self._service.cancel(_caller(request), name)

    def gallery(self, request: gr.Request) -> str:
        """Return the last jobs of whoever asks."""
        return self._gallery(_caller(request))

    def _gallery(self, caller: Caller) -> str:
        return shown.gallery(self._service.store.list(caller, _LAST))

    def _view(self, caller: Caller, name: str) -> tuple[StoredJob | None, View]:
        job = self._service.store.find(caller, name) if name else None
        if job is None:
            text = "it was deleted, or not made here" if name else ""
            return None, View(shown.note(text), shown.player(None), self._gallery(caller), False)
        progress = shown.progress_bar(job, self._service.progress(job))
        return job, View(progress, shown.player(job), self._gallery(caller), job.status in UNFINISHED)


def _geometry(name: str) -> str:
    height, width, frames = sizes_of(name)
    return f"{width}x{height}, {frames} frames"


def _caller(request: gr.Request) -> Caller:
    caller: Caller = request.request.scope["mochi_caller"]
    return caller
