"""Services that answer what a test says, and a browser that reads pages without a network."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from grpc import StatusCode

from services.portal.backend import Missing, Refused
from services.portal.settings import PortalSettings
from services.portal.web import make_app

#: A name that breaks a page which does not escape: HTML, a script, and a turn to right-to-left writing.
HOSTILE = '<script>alert("1")</script>\u202e&amp;שלום<b>'


def refused(reason: str = "NOT_FOUND", code: StatusCode = StatusCode.NOT_FOUND, text: str = "") -> Refused:
    return Refused("fake", code, reason, "", text or reason)


def hidden(text: str, name: str) -> str:
    """The value of a hidden field of a form."""
    found = re.search(rf'name="{name}" value="([^"]*)"', text)
    assert found, f"the page has no hidden field {name}"
    return html.unescape(found[1])


def form_of(text: str, **written: Any) -> dict[str, Any]:
    """What a form carries when a person writes `written` into it and leaves the rest as it is shown."""
    found = {name: hidden(text, name) for name in ("request_id", "seen", "shown")}
    meaning = re.search(r'<textarea id="field-meaning"[^>]*>([^<]*)</textarea>', text)
    assert meaning, "the page says nothing of what the signature means"
    return found | {"meaning": html.unescape(meaning[1])} | written


@dataclass
class FakeBackend:
    """`answers` by service and method: a message, an error to raise, or a function of the fields asked."""

    answers: dict[tuple[str, str], Any] = field(default_factory=dict)
    sites: dict[str, str] = field(default_factory=dict)
    processes: list[str] = field(default_factory=list)
    #: What was told: service, method, actor, fields.
    told: list[tuple[str, str, str, dict[str, Any]]] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def _answer(self, service: str, method: str, fields: dict[str, Any]) -> Any:
        answer = self.answers.get((service, method), Missing(service, "nobody answers"))
        if isinstance(answer, Missing):
            raise Missing(answer.service, answer.why, method)
        if isinstance(answer, Exception):
            raise answer
        return answer(**fields) if callable(answer) else answer

    async def ask(self, service: str, method: str, /, *, fresh: bool = False, **fields: Any) -> Any:
        domain = service.partition(".")[0]
        module = import_module(f"pharmaloop.{domain}.v1.service_pb2")
        getattr(module, f"{method}Request")(**fields)  # the contract knows every field
        self.asked.append((service, method, fields))
        return self._answer(service, method, fields)

    async def tell(self, service: str, method: str, actor: str, /, **fields: Any) -> Any:
        domain = service.partition(".")[0]
        module = import_module(f"pharmaloop.{domain}.v1.service_pb2")
        getattr(module, f"{method}Request")(**fields)
        self.told.append((service, method, actor, fields))
        return self._answer(service, method, fields)

    async def common(self, process: str, offered: str, method: str, /, **fields: Any) -> Any:
        return self._answer(process, method, fields)

    async def close(self) -> None:
        return None


@dataclass(frozen=True)
class Answer:
    """What a browser got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Browser:
    """Reads pages of a portal whose services are fake."""

    backend: FakeBackend
    language: str = "en"
    actor: str = ""
    simulated: bool = False

    def __post_init__(self) -> None:
        self._app = make_app({}, PortalSettings())
        self._app.state.backend = self.backend
        self._app.state.world.simulated = self.simulated

    def get(self, address: str) -> Answer:
        return asyncio.run(self._send("GET", address, b""))

    def post(self, address: str, form: Mapping[str, Any]) -> Answer:
        return asyncio.run(self._send("POST", address, urlencode(form, doseq=True).encode()))

    async def _send(self, method: str, address: str, body: bytes) -> Answer:
        place = urlsplit(address)
        cookies = f"language={self.language}" + (f"; actor={quote(self.actor)}" if self.actor else "")
        headers = {
            "host": "portal",
            "cookie": cookies,
            "content-type": "application/x-www-form-urlencoded",
            "content-length": str(len(body)),
        }
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "server": ("portal", 80),
            "client": ("127.0.0.1", 1),
            "root_path": "",
            "path": unquote(place.path),
            "raw_path": place.path.encode(),
            "query_string": place.query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        }
        sent: list[Any] = []
        told = False

        async def receive() -> dict[str, Any]:
            nonlocal told
            if told:
                await asyncio.sleep(3600)
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        head = next(one for one in sent if one["type"] == "http.response.start")
        got = b"".join(one.get("body", b"") for one in sent if one["type"] == "http.response.body")
        found = {name.decode(): value.decode("latin-1") for name, value in head["headers"]}
        return Answer(head["status"], found, got)
