"""Runs a service behind uvicorn until a signal, or a bundle that cannot be loaded, ends it."""

import logging
import os
import resource
import socket
from collections.abc import Callable
from functools import partial
from types import FrameType

import uvicorn

from mochi_aot.artifacts.errors import exit_code
from mochi_aot.tools.serve.app import application
from mochi_aot.tools.serve.pacing import ACCEPTED, BACKLOG, PacedProtocol
from mochi_aot.tools.serve.service import Service
from mochi_aot.tools.serve.settings import Settings

_LOG = logging.getLogger("mochi_aot")
_GRACE = 5  # seconds for answers that are on their way when the server ends


class _Server(uvicorn.Server):
    """Ends its service at the first signal; the second one ends the process at once, which loses nothing."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and have the kernel keep more connections than are accepted in one turn."""
        await super().startup(sockets)
        for opened in sockets or ():
            opened.listen(BACKLOG)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(128 + sig)
        self._service.end()
        super().handle_exit(sig, frame)


def serve(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, which are raised again once all is closed.

    Where a device is stuck the process ends here, with the exit code of the error.

    `ready` gets the address once all bundles have done a step; probes are answered before. Raise what keeps a bundle
    from being loaded, StateFolderError, KeysError, and OSError where the address is taken.
    """
    _more_files()
    service = Service(settings)
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        with socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG) as opened:
            service.start()
            _run(service, opened, ready)
    finally:
        service.close()
    if service.failure is not None:
        if service.is_stuck:  # Python's end would wait for the device, too
            code = exit_code(service.failure)
            _LOG.error("%s", service.failure, extra={"numbers": {"kind": code.name.lower(), "exit_code": int(code)}})
            os._exit(code)
        raise service.failure


def _run(service: Service, opened: socket.socket, ready: Callable[[str], None]) -> None:
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = list(_LOG.handlers), False
        logger.setLevel(logging.WARNING)
    config = uvicorn.Config(
        application(service),
        http=PacedProtocol,
        backlog=ACCEPTED,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    server = _Server(config, service)

    def fail() -> None:
        server.should_exit = True

    service.on_failure = fail
    host = f"[{service.settings.host}]" if ":" in service.settings.host else service.settings.host
    address = f"http://{host}:{opened.getsockname()[1]}"
    _LOG.info("%s", f"listening on {address}, and loading", extra={"numbers": {"address": address}})
    service.on_ready = partial(ready, address)
    server.run(sockets=[opened])


def _more_files() -> None:
    """Let the process have as many connections as it may: the usual limit is 1024 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
