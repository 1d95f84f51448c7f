"""The videos of OpenAI's API, with the fields that vLLM-Omni has beside OpenAI's: /v1/videos and below it."""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mochi_aot.tools.serve import videos
from mochi_aot.tools.serve.errors import RequestError
from mochi_aot.tools.serve.replies import JsonReply, json_body
from mochi_aot.tools.serve.routing import at, routes_of
from mochi_aot.tools.serve.service import Service
from mochi_aot.tools.serve.settings import MAX_BODY
from mochi_aot.tools.serve.store import CANCELLED, CANCELLING, COMPLETED, StoredJob
from mochi_aot.tools.serve.wanted import shown

_SIZES = ("size", "height", "width", "seconds", "num_frames", "fps")
FIELDS = ("prompt", "negative_prompt", *_SIZES, "num_inference_steps", "guidance_scale", "seed", "priority")
_OTHERS = ("model", "user")
# Without a cancelled status in this dialect, a cancelled video is one that failed.
_STATUS = {CANCELLING: "in_progress", CANCELLED: "failed"}
_MOST = 100  # videos of a list


def routes(service: Service) -> list[Route]:
    """Return the paths of this dialect."""
    return routes_of(_Handlers(service))


class _Handlers:
    def __init__(self, service: Service) -> None:
        self._service = service

    @at("POST", "/v1/videos")
    async def create(self, request: Request) -> Response:
        caller = self._service.caller(request)
        fields = await _fields(request)
        model = fields.get("model")
        if model is not None and not isinstance(model, str):
            raise RequestError(400, f"model is {shown(model)}, expected a text", "model")
        wanted = {name: fields[name] for name in FIELDS if name in fields}
        return JsonReply(_video(self._service, await run_in_threadpool(self._service.submit, caller, model, wanted)))

    @at("GET", "/v1/videos")
    async def listed(self, request: Request) -> Response:
        caller, query = self._service.caller(request), request.query_params
        limit, order = query.get("limit", "20"), query.get("order", "desc")
        if not (limit.isascii() and limit.isdigit() and len(limit) <= 3 and 1 <= int(limit) <= _MOST):
            raise RequestError(400, f"limit is {shown(limit)}, expected 1 to {_MOST}", "limit")
        if order not in ("asc", "desc"):
            raise RequestError(400, f"order is {shown(order)}, expected asc or desc", "order")
        newest_first = order == "desc"
        found = await run_in_threadpool(
            self._service.store.list, caller, int(limit) + 1, query.get("after"), newest_first
        )
        data = [_video(self._service, job) for job in found[: int(limit)]]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
        return JsonReply({"object": "list", "data": data, **ends, "has_more": len(found) > int(limit)})

    @at("GET", "/v1/videos/{id}")
    async def retrieve(self, request: Request) -> Response:
        return JsonReply(_video(self._service, await self._service.find(request)))

    @at("DELETE", "/v1/videos/{id}")
    async def delete(self, request: Request) -> Response:
        job = await self._service.find(request)
        await run_in_threadpool(self._service.delete, self._service.caller(request), job.id)
        return JsonReply({"id": job.id, "object": "video.deleted", "deleted": True})

    @at("GET", "/v1/videos/{id}/content")
    async def content(self, request: Request) -> Response:
        job = await self._service.find(request)
        variant = request.query_params.get("variant", "video")
        if variant != "video":
            raise RequestError(400, f"variant is {shown(variant)}; there is video and no other", "variant")
        return await videos.video_file(self._service, job)

    @at("GET", "/v1/videos/{id}/record")
    async def record(self, request: Request) -> Response:
        return await videos.record(self._service, await self._service.find(request))

    @at("GET", "/v1/videos/{id}/events")
    async def events(self, request: Request) -> Response:
        return videos.events(self._service, request, await self._service.find(request))

    @at("GET", "/v1/models")
    async def models(self, request: Request) -> Response:
        self._service.caller(request)
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "mochi-aot"} for name in self._service.models]
        return JsonReply({"object": "list", "data": data})


async def _fields(request: Request) -> dict[str, Any]:
    """Return the fields of a body, JSON or a form. Raise RequestError for one that would have no effect."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        fields = await _form(request)
    else:
        fields = await json_body(request)
    for name, value in fields.items():
        if name not in FIELDS and name not in _OTHERS and value is not None:
            raise RequestError(400, f"{shown(name)} is no field that has an effect here; leave it out", name[:60])
    return fields


async def _form(request: Request) -> dict[str, Any]:
    try:
        async with request.form(max_files=1, max_fields=50, max_part_size=MAX_BODY) as form:
            fields: dict[str, Any] = {}
            for name, value in form.multi_items():
                if not isinstance(value, str):
                    raise RequestError(400, f"{shown(name)} is a file, and none is taken here", name[:60])
                if name in fields:
                    raise RequestError(400, f"{shown(name)} is given twice", name[:60])
                fields[name] = value
            return fields
    except HTTPException as error:
        raise RequestError(400, f"the form cannot be read: {error.detail}") from None


def _video(service: Service, job: StoredJob) -> dict[str, Any]:
    """Return a job as this dialect has it."""
    progress, arguments = service.progress(job), job.arguments
    done = 100 if job.status == COMPLETED else 99 * progress.step // max(1, progress.steps)
    error = {"code": CANCELLED, "message": "the video was cancelled"} if job.status == CANCELLED else job.error
    expires = None if job.finished is None else int(job.finished + 3600 * service.settings.keep_hours)
    return {
        "id": job.id,
        "object": "video",
        "model": job.model,
        "status": _STATUS.get(job.status, job.status),
        "progress": done,
        "created_at": int(job.created),
        "completed_at": int(job.finished) if job.finished is not None and job.status == COMPLETED else None,
        "expires_at": expires,
        "prompt": arguments["prompt"],
        "size": f"{arguments['width']}x{arguments['height']}",
        "seconds": f"{arguments['num_frames'] / job.fps:.2f}".rstrip("0").rstrip("."),
        "error": error,
        "remixed_from_video_id": None,
    }
