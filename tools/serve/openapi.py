"""The description of the API that a program reads, /openapi.json, and the page of it for people, /docs."""

from typing import Any

from mochi_aot import __version__
from mochi_aot.tools.serve.settings import MAX_PROMPT, MAX_STEPS

_TEXT = {"type": "string", "maxLength": MAX_PROMPT}
_COMMON: dict[str, Any] = {
    "prompt": _TEXT,
    "negative_prompt": _TEXT,
    "num_inference_steps": {"type": "integer", "minimum": 1, "maximum": MAX_STEPS},
    "guidance_scale": {"type": "number", "minimum": 0, "maximum": 100},
    "seed": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
    "priority": {"type": "integer", "minimum": -100, "maximum": 100},
}
_OPENAI: dict[str, Any] = {
    **_COMMON,
    "model": {"type": "string"},
    "size": {"type": "string", "pattern": "^[0-9]{1,6}x[0-9]{1,6}$", "description": "WIDTHxHEIGHT"},
    "height": {"type": "integer"},
    "width": {"type": "integer"},
    "seconds": {"type": "string", "description": "The length; or num_frames"},
    "num_frames": {"type": "integer"},
    "fps": {"type": "number", "minimum": 1, "maximum": 1000},
}
# method, path, summary, status of success
_PATHS = (
    ("post", "/v1/videos", "Queue a video", 200),
    ("get", "/v1/videos", "The caller's videos: after, limit, order", 200),
    ("get", "/v1/videos/{id}", "How a video gets on", 200),
    ("delete", "/v1/videos/{id}", "Forget a video, stopping it if it runs", 200),
    ("get", "/v1/videos/{id}/content", "The mp4", 200),
    ("get", "/v1/videos/{id}/record", "What made the video, as mochi-run writes it", 200),
    ("get", "/v1/videos/{id}/events", "Server-sent events: phase, step of steps, seconds left", 200),
    ("get", "/v1/models", "The bundles", 200),
    ("post", "/v1/videos/generations", "Queue a video", 202),
    ("get", "/v1/videos/generations/{id}", "How a video gets on", 200),
    ("delete", "/v1/videos/generations/{id}", "Forget a video, stopping it if it runs", 200),
    ("get", "/v1/videos/generations/{id}/download", "The mp4", 200),
    ("post", "/v1/videos/generations/{id}/cancel", "Stop a video, after its step if it runs", 200),
    ("get", "/v1/videos/jobs", "The caller's videos", 200),
    ("get", "/health", "200 once videos can be made", 200),
    ("get", "/tt-liveness", "500 where the process should be started anew", 200),
    ("get", "/metrics", "Numbers for Prometheus", 200),
)
# What a request has beside the id and the body, by the end of its path.
_PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "/v1/videos": [
        {"name": "after", "in": "query", "schema": {"type": "string"}},
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100}},
        {"name": "order", "in": "query", "schema": {"enum": ["asc", "desc"]}},
    ],
    "/v1/videos/{id}/content": [
        {"name": "variant", "in": "query", "schema": {"enum": ["video"]}},
        {"name": "Range", "in": "header", "schema": {"type": "string"}, "example": "bytes=0-99"},
    ],
}
_ERRORS = {400: "Refused", 401: "No known key", 404: "Not there", 408: "Too slow", 413: "Too large"} | {
    422: "Refused",
    429: "The queue is full",
    503: "Not ready",
}


def document() -> dict[str, Any]:
    """Return the description, as OpenAPI 3.1 has it."""
    paths: dict[str, Any] = {}
    for method, path, summary, status in _PATHS:
        paths.setdefault(path, {})[method] = _operation(method, path, summary, status)
    return {"openapi": "3.1.0", "info": {"title": "mochi-serve", "version": __version__}, "paths": paths}


def _operation(method: str, path: str, summary: str, status: int) -> dict[str, Any]:
    codes = {str(status): "Done"} | {str(code): text for code, text in _ERRORS.items()}
    told: dict[str, Any] = {
        "summary": summary,
        "responses": {code: {"description": text} for code, text in codes.items()},
    }
    told["parameters"] = list(_PARAMETERS.get(path, [])) if method == "get" else []
    if "{id}" in path:
        told["parameters"] += [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    if method == "post" and "{id}" not in path:
        fields = _COMMON if path.endswith("generations") else _OPENAI
        schema = {"schema": {"type": "object", "required": ["prompt"], "properties": fields}}
        kinds = ["application/json"] if path.endswith("generations") else ["application/json", "multipart/form-data"]
        told["requestBody"] = {"required": True, "content": dict.fromkeys(kinds, schema)}
    return told


_ROWS = "".join(f"<tr><td>{method.upper()}</td><td>{path}</td><td>{text}</td></tr>" for method, path, text, _ in _PATHS)
PAGE = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>mochi-serve</title>
<style>body {{font-family: sans-serif; margin: 2em}} td {{padding: 0.2em 1em 0.2em 0}}</style>
<h1>mochi-serve {__version__}</h1><table>{_ROWS}</table>
<p><a href="/openapi.json">openapi.json</a> has the fields of each request.</p></html>
"""
