"""A portal of the test's own, in this process: of another version, or of another language."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from services.portal.settings import PortalSettings
from services.portal.web import make_app

_UP_SECONDS = 20.0
_HOST = "127.0.0.1"


def _as_it_is(app: FastAPI) -> None:
    """Changes nothing."""


@contextmanager
def own_portal(
    endpoints: Mapping[str, str], change: Callable[[FastAPI], None] = _as_it_is, port: int = 0
) -> Iterator[str]:
    """A portal for services at `endpoints`, changed before it starts; answers its address."""
    app = make_app(endpoints, PortalSettings())
    change(app)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((_HOST, port))
        settings = uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="on", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + _UP_SECONDS
        while not server.started:
            assert thread.is_alive(), "the portal did not start"
            assert time.monotonic() < deadline, "the portal did not start in time"
            time.sleep(0.02)
        try:
            yield f"http://{_HOST}:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(_UP_SECONDS)
