"""What both dialects do with a video: its file, its record, and word of how it gets on."""

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from mochi_aot.tools.serve.errors import RequestError
from mochi_aot.tools.serve.replies import JsonReply
from mochi_aot.tools.serve.service import Service
from mochi_aot.tools.serve.store import COMPLETED, UNFINISHED, StoredJob

_STILL_HERE = 15.0  # seconds after which a comment keeps a connection open


async def video_file(service: Service, job: StoredJob) -> Response:
    """Return the mp4, or the part that a Range asks for. Raise RequestError with status 404 where there is none."""
    path = service.store.video(job)
    try:
        if job.status != COMPLETED:
            raise FileNotFoundError
        found = await run_in_threadpool(path.stat)
    except FileNotFoundError:
        raise RequestError(404, f"there is no file of {job.id}: its status is {job.status}", "id") from None
    return FileResponse(path, media_type="video/mp4", filename=path.name, stat_result=found)


async def record(service: Service, job: StoredJob) -> Response:
    """Return the record, as `mochi-run` writes it beside the video, with the file's name and no folder."""
    try:
        text = await run_in_threadpool(service.store.record(job).read_text, "utf-8")
    except FileNotFoundError:
        raise RequestError(404, f"there is no record of {job.id}: its status is {job.status}", "id") from None
    value = json.loads(text)
    value["arguments"]["output"] = service.store.video(job).name
    return JsonReply(value)


def events(service: Service, request: Request, job: StoredJob) -> Response:
    """Return server-sent events: one for each change of a job, until it has ended or the server ends."""

    async def stream() -> AsyncIterator[str]:
        caller, last, current, seen, stored = service.caller(request), None, job, -1, -1
        is_news = True
        while True:
            data = _event(service, current)
            if data != last:
                yield f"event: progress\ndata: {json.dumps(data)}\n\n"
            elif not is_news:
                yield ": still here\n\n"
            if current.status not in UNFINISHED or service.is_ending:
                return
            last = data
            is_news = await service.changes(seen, _STILL_HERE)
            seen = service.version
            if stored == service.jobs_version:
                continue  # a step of some job: the store has nothing new
            stored = service.jobs_version
            found = await run_in_threadpool(service.store.find, caller, current.id)
            if found is None:
                yield "event: deleted\ndata: {}\n\n"
                return
            current = found

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


def _event(service: Service, job: StoredJob) -> dict[str, Any]:
    progress = service.progress(job)
    left = progress.seconds_left
    return {
        "id": job.id,
        "status": job.status,
        "phase": progress.phase,
        "step": progress.step,
        "steps": progress.steps,
        "seconds_left": None if left is None else round(left, 1),
    }
