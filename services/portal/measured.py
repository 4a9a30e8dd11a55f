"""Rate, errors and duration of pages, told as the services tell theirs.

A page is named by the template of its address, `/lots/{key}`: which lot somebody looked at is in no label.
"""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.kit.metrics import PAGE_SECONDS, Metrics

#: The line of changes lasts as long as somebody looks; probes and files are no pages.
_NO_PAGES = ("/live", "/healthz")
STATIC, NONE = "/static", "none"
_REFUSED, _FAILED = 400, 500
DONE, REFUSED, FAILED = "done", "refused", "failed"


class Measured:
    """Around everything else: how long each answer took, and what became of it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _NO_PAGES:
            await self._app(scope, receive, send)
            return
        # Until something is answered it is a failure, whoever answers for it then.
        status, began = _FAILED, time.perf_counter()

        async def heard(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, heard)
        finally:
            took = time.perf_counter() - began
            self._metrics.observe(PAGE_SECONDS, took, page=page_of(scope), outcome=outcome_of(status))


def outcome_of(status: int) -> str:
    """What became of a request: refused by what it asks for, or failed by our own fault."""
    if status >= _FAILED:
        return FAILED
    return REFUSED if status >= _REFUSED else DONE


def page_of(scope: Scope) -> str:
    """The template of the address that was asked for; `none` for addresses that are no page's."""
    route = scope.get("route")
    if route is None and scope["path"].startswith(f"{STATIC}/"):
        return STATIC
    return str(getattr(route, "path", NONE))
