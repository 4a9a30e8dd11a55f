"""The portal as an ASGI application: languages, safety of forms, live line, errors, pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from urllib.parse import unquote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.kit import hospitals
from services.kit.log import get_logger
from services.kit.metrics import Metrics
from services.portal.addresses import inside
from services.portal.backend import Backend, Missing, Refused
from services.portal.clock import World
from services.portal.confirming import Told
from services.portal.languages import NAMES, Language, chosen
from services.portal.live import Hub
from services.portal.looks import HEADER, Looks
from services.portal.measured import Measured
from services.portal.pages import ROUTERS
from services.portal.render import STATIC, environment, page, version
from services.portal.settings import PortalSettings

log = get_logger("portal.web")
_YEAR = 365 * 24 * 3600
#: Nothing but our own: pages hold what services say, and what people wrote.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_MOST_FORM_BYTES = 100_000


def make_app(
    endpoints: Mapping[str, str],
    settings: PortalSettings,
    metrics: Metrics | None = None,
    first_site: str = hospitals.FIRST,
) -> FastAPI:
    """The portal for the services that listen at `endpoints`; clinical alone is `first_site`'s."""

    @asynccontextmanager
    async def around(app: FastAPI) -> AsyncIterator[None]:
        app.state.backend = Backend(endpoints, settings, first_site)
        app.state.hub = Hub(app.state.backend, app.state.version)
        app.state.hub.start()
        watching = asyncio.create_task(app.state.world.watch(app.state.backend))
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await app.state.hub.stop()
        await app.state.backend.close()

    app = FastAPI(
        title="PharmaLoop",
        lifespan=around,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # As they were read: routers that are included are worked out anew at the first page, for a second.
        routes=[route for router in ROUTERS for route in router.routes],
    )
    app.state.templates = environment()
    app.state.version = version()
    app.state.told = Told()
    app.state.world = World()
    app.state.looks = Looks(settings.share_seconds)
    app.add_middleware(GZipMiddleware, minimum_size=1_000, compresslevel=5)
    app.add_middleware(Around)
    app.add_middleware(Measured, metrics=metrics or Metrics("portal"))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_api_route("/live", _live)
    app.add_api_route("/healthz", _health)
    app.add_api_route("/language", _language, methods=["POST"])
    app.add_api_route("/", lambda: RedirectResponse("/runs"))
    app.add_exception_handler(Missing, _missing)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(Exception, _broken)
    return app


class Around:
    """Around every answer: who reads, in which language; that a form comes from a page of ours; what a
    browser is told of all of them. Looks are shared here, before anything is drawn."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        _read(request)
        if refused := _foreign(request):
            await refused(scope, receive, send)
            return
        send = _finished(request.url.path, send)
        if HEADER not in request.headers or request.method != "GET":
            await self._app(scope, receive, send)
            return
        request.state.actor = ""
        language: Language = request.state.language
        encoding = request.headers.get("accept-encoding", "")
        looks: Looks = request.app.state.looks
        what = (str(request.url), language.code, language.zone, encoding)
        await looks.share(what, self._app, scope, receive, send)


def _read(request: Request) -> None:
    """Who reads, in which language, and from which place on changes are told."""
    cookies = request.cookies
    code = chosen(cookies.get("language", ""), request.headers.get("accept-language", ""))
    request.state.language = Language(code, _zone(cookies.get("zone", "")))
    request.state.actor = unquote(cookies.get("actor", ""))[:200]
    hub: Hub | None = getattr(request.app.state, "hub", None)
    request.state.mark = hub.token() if hub else ""  # before anything is asked: what changes then is told


def _foreign(request: Request) -> Response | None:
    """The refusal of a form that is another site's, endless or too large."""
    if request.method != "POST":
        return None
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin", "")
    if site not in ("same-origin", "none") or (
        origin and origin.partition("://")[2] != request.headers.get("host", "")
    ):
        return PlainTextResponse("this form was sent by another site's page; open ours", status_code=403)
    length = request.headers.get("content-length", "")
    if not length.isdigit():
        return PlainTextResponse("this form does not say how long it is", status_code=411)
    if int(length) > _MOST_FORM_BYTES:
        return PlainTextResponse("this form is too large", status_code=413)
    return None


def _finished(path: str, send: Send) -> Send:
    """`send`, with what every answer tells a browser of safety and of keeping."""

    async def finished(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["content-security-policy"] = _POLICY
            headers["x-content-type-options"] = "nosniff"
            headers["referrer-policy"] = "same-origin"
            if path.startswith("/static/") and message["status"] == 200:
                headers["cache-control"] = f"public, max-age={_YEAR}, immutable"
            else:
                headers["vary"] = ", ".join(filter(None, (headers.get("vary"), "cookie, accept-language")))
                headers.setdefault("cache-control", "no-store")
        await send(message)

    return finished


def _zone(told: str) -> str:
    try:
        return ZoneInfo(unquote(told)).key if told else "UTC"
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "UTC"


async def _live(request: Request) -> StreamingResponse:
    """The live line of one page: `?on=NAME` for everything that it shows."""
    hub: Hub = request.app.state.hub
    watched = frozenset(request.query_params.getlist("on")[:500])
    last = request.headers.get("last-event-id", "") or request.query_params.get("last", "")
    return StreamingResponse(
        hub.stream(watched, last),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _health() -> PlainTextResponse:
    return PlainTextResponse("serving\n")


async def _language(request: Request) -> RedirectResponse:
    """Remember the language that a reader picks."""
    form = await request.form()
    code, to = str(form.get("language", "")), str(form.get("to", "/"))
    answer = RedirectResponse(inside(to), status_code=303)
    if code in NAMES:
        answer.set_cookie("language", code, max_age=_YEAR, samesite="lax")
    return answer


async def _missing(request: Request, error: Exception) -> Response:
    assert isinstance(error, Missing)
    return page(request, "missing.html", {"missing": error}, status=503)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    back = request.headers.get("referer", "/")
    status = 404 if error.unknown else 409
    return page(request, "refused.html", {"refused": error, "back": back}, status=status)


async def _unreadable(request: Request, error: Exception) -> Response:
    """What stands behind an address is no number where one is meant, or is left out."""
    return page(request, "nothing.html", {"status": 404}, status=404)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return page(request, "nothing.html", {"status": error.status_code}, status=error.status_code)


async def _broken(request: Request, error: Exception) -> Response:
    log.error("page failed", path=request.url.path, exc_info=error)
    return page(request, "broken.html", {}, status=500)
