"""The application: both dialects, the description of the API, and errors in the form that a path's clients expect."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mochi_aot.tools.serve import media_server, openai_videos
from mochi_aot.tools.serve.errors import RequestError
from mochi_aot.tools.serve.guard import Guard
from mochi_aot.tools.serve.openapi import PAGE, document
from mochi_aot.tools.serve.replies import JsonReply, error_reply
from mochi_aot.tools.serve.service import Service


def application(service: Service) -> Starlette:
    """Return the ASGI application of a service, which it closes at its end."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.attach(asyncio.get_running_loop())
        yield
        await run_in_threadpool(service.close)

    async def refused(request: Request, error: Exception) -> Response:
        known = error if isinstance(error, RequestError) else _of_http(error)
        service.metrics.refused.labels(str(known.status)).inc()
        return error_reply(request.url.path, known)

    async def openapi(request: Request) -> Response:
        return JsonReply(document())

    async def page(request: Request) -> Response:
        return Response(PAGE, media_type="text/html")

    # The media server's paths first: /v1/videos/{id} would fit some of them.
    app = Starlette(
        routes=[
            *media_server.routes(service),
            *openai_videos.routes(service),
            Route("/openapi.json", openapi, methods=["GET"]),
            Route("/docs", page, methods=["GET"]),
        ],
        middleware=[Middleware(Guard)],
        exception_handlers={RequestError: refused, HTTPException: refused, Exception: refused},
        lifespan=lifespan,
    )
    if service.settings.ui:
        from mochi_aot.tools.serve.page.mount import mount  # Gradio takes longer to import than all the rest

        mount(app, service)
    return app


def _of_http(error: Exception) -> RequestError:
    """Return the refusal that starlette's error stands for; faults of the server keep their text to the log."""
    if not isinstance(error, HTTPException):
        return RequestError(500, "an internal error; the server's log has more")
    texts = {404: "there is no such path here; /docs lists them", 405: "this path does not take this method"}
    return RequestError(error.status_code, texts.get(error.status_code, str(error.detail)))
