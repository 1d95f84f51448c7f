"""Video generation as Tenstorrent's media server has it: /v1/videos/generations, /v1/videos/jobs, and its probes.

Field names and forms of answers follow tt-media-server of github.com/tenstorrent/tt-inference-server.
"""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mochi_aot.tools.serve import videos
from mochi_aot.tools.serve.errors import RequestError
from mochi_aot.tools.serve.replies import JsonReply, json_body
from mochi_aot.tools.serve.routing import at, routes_of
from mochi_aot.tools.serve.service import Service
from mochi_aot.tools.serve.store import StoredJob
from mochi_aot.tools.serve.wanted import shown

# That server leaves out other fields without a word, and its clients count on it.
FIELDS = ("prompt", "negative_prompt", "num_inference_steps", "seed", "guidance_scale", "priority")
_LISTED = 1000


def routes(service: Service) -> list[Route]:
    """Return the paths of this dialect."""
    return routes_of(_Handlers(service))


class _Handlers:
    def __init__(self, service: Service) -> None:
        self._service = service

    @at("POST", "/v1/videos/generations")
    async def create(self, request: Request) -> Response:
        caller, body = self._service.caller(request), await json_body(request)
        wanted = {name: body[name] for name in FIELDS if name in body}
        job = await run_in_threadpool(self._service.submit, caller, None, wanted)
        return JsonReply(_job(job), 202)

    @at("GET", "/v1/videos/generations/{id}")
    async def retrieve(self, request: Request) -> Response:
        return JsonReply(_job(await self._service.find(request)))

    @at("GET", "/v1/videos/generations/{id}/download")
    async def download(self, request: Request) -> Response:
        return await videos.video_file(self._service, await self._service.find(request))

    @at("POST", "/v1/videos/generations/{id}/cancel")
    async def cancel(self, request: Request) -> Response:
        job = await self._service.find(request)
        cancelled = await run_in_threadpool(self._service.cancel, self._service.caller(request), job.id)
        if cancelled is None:
            raise RequestError(404, f"{job.id} is {job.status}, and cannot be cancelled", "id")
        return JsonReply(_job(cancelled))

    @at("DELETE", "/v1/videos/generations/{id}")
    async def delete(self, request: Request) -> Response:
        job = await self._service.find(request)
        await run_in_threadpool(self._service.delete, self._service.caller(request), job.id)
        return JsonReply({"id": job.id, "object": "video", "deleted": True})

    @at("GET", "/v1/videos/jobs")
    async def jobs(self, request: Request) -> Response:
        found = await run_in_threadpool(self._service.store.list, self._service.caller(request), _LISTED)
        return JsonReply([_job(job) for job in found])

    @at("GET", "/health")
    async def health(self, request: Request) -> Response:
        if not self._service.is_ready():
            raise RequestError(503, "Model not ready")
        return JsonReply({})

    @at("GET", "/tt-liveness")
    async def liveness(self, request: Request) -> Response:
        trouble = self._service.trouble()
        if trouble is not None:
            raise RequestError(500, f"Liveness check failed: {shown(trouble)}")
        workers = {name: {"is_ready": worker.is_ready} for name, worker in self._service.workers.items()}
        return JsonReply({"status": "alive", "model_ready": self._service.is_ready(), "worker_info": workers})

    @at("GET", "/metrics")
    async def metrics(self, request: Request) -> Response:
        self._service.is_ready()
        return Response(await run_in_threadpool(self._service.metrics.page), media_type="text/plain; version=0.0.4")


def _job(job: StoredJob) -> dict[str, Any]:
    """Return a job as this dialect has it."""
    asked = {name: job.arguments.get(name) for name in ("prompt", "negative_prompt", "num_inference_steps", "seed")}
    told: dict[str, Any] = {
        "id": job.id,
        "job_type": "video",
        "status": job.status,
        "created_at": int(job.created),
        "model": job.model,
        "request_parameters": asked,
    }
    if job.finished is not None:
        told["completed_at"] = int(job.finished)
    if job.error is not None:
        told["error"] = dict(job.error)
    return told
