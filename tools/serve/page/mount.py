"""Puts the page into the application. Importing this file needs Gradio, and takes a second or more."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import

import gradio as gr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mochi_aot.tools.serve import videos
from mochi_aot.tools.serve.page.door import PLACE, Door
from mochi_aot.tools.serve.page.form import blocks
from mochi_aot.tools.serve.page.handlers import Handlers
from mochi_aot.tools.serve.page.shown import ICON, STYLE
from mochi_aot.tools.serve.replies import JsonReply
from mochi_aot.tools.serve.service import Service

# Fonts of the machine: Gradio's own come from elsewhere.
_FONTS = ["system-ui", "sans-serif"]
_FIXED = ["ui-monospace", "monospace"]


def mount(app: Starlette, service: Service) -> None:
    """Add the page at /ui/, to which / leads, to an application that has its other paths already."""

    async def to_page(request: Request) -> Response:
        return RedirectResponse(f"{PLACE}/")

    async def manifest(request: Request) -> Response:
        return JsonReply({"name": "mochi-serve", "start_url": f"{PLACE}/"})

    async def icon(request: Request) -> Response:
        return Response(ICON, media_type="image/svg+xml")

    async def content(request: Request) -> Response:
        return await videos.video_file(service, await service.find(request))

    async def record(request: Request) -> Response:
        return await videos.record(service, await service.find(request))

    app.router.routes += [
        Route("/", to_page, methods=["GET"]),
        # Browsers and Gradio's page ask for these there.
        Route("/favicon.ico", icon, methods=["GET"]),
        Route("/manifest.json", manifest, methods=["GET"]),
        Route(f"{PLACE}/videos/{{id}}/content", content, methods=["GET"]),
        Route(f"{PLACE}/videos/{{id}}/record", record, methods=["GET"]),
    ]
    app.add_middleware(Door, service=service)
    gr.mount_gradio_app(
        app,  # which has what the function needs of a FastAPI
        blocks(Handlers(service), list(service.models)),
        PLACE,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(font=_FONTS, font_mono=_FIXED),
        css=STYLE,
    )
