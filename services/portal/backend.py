"""The services as the portal asks them: by name, with the actor, with one plain error.

Two hundred open pages that show the same ask once: an answer is shared by everybody who asks the
same within `share_seconds`. A service that does not answer is a `Missing`, and a page shows the rest.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from google.protobuf.message import Message
from grpc import StatusCode, aio

from services.kit import hospitals
from services.kit.contracts import contract
from services.kit.log import get_logger
from services.kit.rpc.client import channel, metadata
from services.kit.rpc.errors import reason_of, violations_of
from services.kit.tls import handshake
from services.kit.watching import owned
from services.portal.settings import PortalSettings

_log = get_logger("portal.backend")
#: By service: the module of its API, and the name of the gRPC service in it.
_APIS = {
    "production": ("production", "ProductionService"),
    "traceability": ("traceability", "TraceabilityService"),
    "clinical": ("clinical", "ClinicalService"),
    "alerting": ("alerting", "AlertingService"),
    "rnd": ("rnd", "RndService"),
    "loops": ("loops", "LoopsService"),
    "exchange": ("exchange", "ExchangeService"),
}
#: What every process offers, by the name of the gRPC service: the module that has it.
_COMMON = {"StatusService": "service", "ChangesService": "changes"}
#: Commands that compute are waited for so long, in seconds.
_PATIENCE = {"RunTrial": 30.0}
#: A subscription is asked for anew after this time; it goes on where it was.
_WATCH_SECONDS = 3_600.0
#: Why a process refuses the connection is logged again after so long.
_LOOK_SECONDS = 60.0


class Missing(Exception):
    """A service does not answer; `method` is what it was asked: the part of the page that is not there."""

    def __init__(self, service: str, why: str, method: str = "") -> None:
        super().__init__(f"{service}: {why}")
        self.service = service
        self.why = why
        self.method = method


class Refused(Exception):
    """A service refused: the reason, the field and the sentence for people.

    `violations` are all fields at fault, each with its sentence and its reason, where a service tells them.
    """

    def __init__(
        self,
        service: str,
        code: StatusCode,
        reason: str,
        field: str,
        description: str,
        violations: tuple[tuple[str, str, str], ...] = (),
    ) -> None:
        super().__init__(description)
        self.service = service
        self.code = code
        self.reason = reason
        self.field = field
        self.description = description
        self.violations = violations

    @property
    def unknown(self) -> bool:
        """The thing asked for is not there."""
        return self.code == StatusCode.NOT_FOUND


@dataclass(slots=True)
class _Shared:
    answer: asyncio.Future[Any]
    until: float


@cache
def _module(domain: str, name: str) -> Any:
    return import_module(f"pharmaloop.{domain}.v1.{name}")


class Backend:
    """Connections to every service, made once."""

    def __init__(
        self, endpoints: Mapping[str, str], settings: PortalSettings, first_site: str = hospitals.FIRST
    ) -> None:
        """`first_site`: the hospital whose process is called clinical alone."""
        self._sites = hospitals.processes(endpoints, first_site)
        self._endpoints = dict(endpoints)
        self._settings = settings
        self._channels: dict[str, aio.Channel] = {}
        self._look_again: dict[str, float] = {}
        self._looking: set[asyncio.Task[None]] = set()
        self._shared: dict[tuple[Any, ...], _Shared] = {}

    @property
    def processes(self) -> list[str]:
        """Names of all processes that can be asked, for example "clinical.hospital-b"."""
        return list(self._endpoints)

    @property
    def sites(self) -> dict[str, str]:
        """By site, the clinical process that speaks for it."""
        return self._sites

    async def ask(self, service: str, method: str, /, *, fresh: bool = False, **fields: Any) -> Any:
        """The answer of a query. `service` is a process's name; fields are those of the request.

        Raises `Missing` where nobody answers and `Refused` where the service says no.
        """
        request = _request(service, method, fields)
        if fresh:
            return await self._call(service, method, request, "portal")
        return await self._once(
            (service, method, request.SerializeToString(deterministic=True)),
            lambda: self._call(service, method, request, "portal"),
        )

    async def tell(self, service: str, method: str, actor: str, /, **fields: Any) -> Any:
        """The answer of a command under a person's name; with a `request_id` a repeat is one."""
        fields.setdefault("request_id", str(uuid.uuid4()))
        answer = await self._call(service, method, _request(service, method, fields), actor)
        self._shared.clear()  # whoever acted sees it
        return answer

    async def common(self, process: str, offered: str, method: str, /, **fields: Any) -> Any:
        """The answer of what every process offers, for example ("loops", "StatusService", "GetStatus")."""
        request = getattr(_module("common", f"{_COMMON[offered]}_pb2"), f"{method}Request")(**fields)

        async def call() -> Any:
            try:
                return await self._answer(
                    process, getattr(self._common(process, offered), method), request, "portal"
                )
            except Missing as missing:
                raise Missing(process, missing.why, method) from None

        return await self._once(
            (process, offered, method, request.SerializeToString(deterministic=True)), call
        )

    def watch(self, process: str, after: Any) -> AsyncIterator[Any]:
        """The changes of a process after a place of its log; ends only by an error of gRPC."""
        request = _module("common", "changes_pb2").WatchChangesRequest(after=after, types=told_by(process))
        stream: AsyncIterator[Any] = self._common(process, "ChangesService").WatchChanges(
            request, timeout=_WATCH_SECONDS, metadata=metadata("portal")
        )
        return stream

    async def close(self) -> None:
        for open_channel in self._channels.values():
            await open_channel.close()

    async def _once(self, key: tuple[Any, ...], ask: Any) -> Any:
        now = time.monotonic()
        held = self._shared.get(key)
        if held is None or held.until < now:
            lasts = self._settings.share_seconds
            held = _Shared(asyncio.ensure_future(ask()), now + lasts)
            held.answer.add_done_callback(_looked_at)
            self._shared[key] = held
            asyncio.get_running_loop().call_later(lasts, self._forget, key, held)
        return await asyncio.shield(held.answer)

    def _forget(self, key: tuple[Any, ...], held: _Shared) -> None:
        if self._shared.get(key) is held:
            del self._shared[key]

    async def _call(self, service: str, method: str, request: Message, actor: str) -> Any:
        seconds = _PATIENCE.get(method, self._settings.answer_seconds)
        try:
            return await self._answer(service, getattr(self._stub(service), method), request, actor, seconds)
        except Missing as missing:
            raise Missing(service, missing.why, method) from None

    async def _answer(
        self, service: str, method: Any, request: Message, actor: str, seconds: float | None = None
    ) -> Any:
        try:
            timeout = seconds or self._settings.answer_seconds
            return await method(request, timeout=timeout, metadata=metadata(actor))
        except aio.AioRpcError as error:
            if error.code() == StatusCode.UNAVAILABLE and handshake.is_sign(error.details()):
                self._look_at_certificates(service)
            raise _said(service, error) from None

    def _look_at_certificates(self, process: str) -> None:
        """Log whose certificate keeps the portal from a process: pages say only that it does not answer."""
        now = time.monotonic()
        if self._look_again.get(process, 0.0) < now:
            self._look_again[process] = now + _LOOK_SECONDS
            looking = asyncio.ensure_future(self._tell_certificates(process))
            self._looking.add(looking)
            looking.add_done_callback(self._looking.discard)

    async def _tell_certificates(self, process: str) -> None:
        if why := await asyncio.to_thread(handshake.of_grpc, self._endpoints[process]):
            _log.warning("no secure connection", process=process, reason=why)

    def _stub(self, service: str) -> Any:
        domain, name = _APIS[service.partition(".")[0]]
        return getattr(_module(domain, "service_pb2_grpc"), f"{name}Stub")(self._channel(service))

    def _common(self, process: str, offered: str) -> Any:
        stubs = _module("common", f"{_COMMON[offered]}_pb2_grpc")
        return getattr(stubs, f"{offered}Stub")(self._channel(process))

    def _channel(self, process: str) -> aio.Channel:
        if process not in self._channels:
            if process not in self._endpoints:
                raise Missing(process, "PHARMALOOP_ENDPOINTS does not say where it listens")
            self._channels[process] = channel(self._endpoints[process])
        return self._channels[process]


def told_by(process: str) -> list[str]:
    """The events of a process that pages hear of: all that its service owns, but for those of passing value.

    Topics that keep their records for a while only carry readings: a page of readings looks by the clock.
    """
    service = process.partition(".")[0]
    topics = owned(contract(), service, at_site=service == "clinical")
    return sorted({event for topic in topics if topic.keep_days is None for event in topic.events})


def _looked_at(answer: asyncio.Future[Any]) -> None:
    """Whoever waited has the error; nobody has to have waited."""
    if not answer.cancelled():
        answer.exception()


def _request(service: str, method: str, fields: dict[str, Any]) -> Message:
    domain, _ = _APIS[service.partition(".")[0]]
    try:
        made: Message = getattr(_module(domain, "service_pb2"), f"{method}Request")(**fields)
    except (ValueError, OverflowError) as error:  # an address with a number that no field holds
        raise Refused(service, StatusCode.NOT_FOUND, "BAD_VALUE", "", str(error)) from None
    return made


def _said(service: str, error: aio.AioRpcError) -> Missing | Refused:
    reason, field = reason_of(error)
    code = error.code()
    if code in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.UNIMPLEMENTED):
        return Missing(service, error.details() or code.name)
    told = error.details() or code.name
    return Refused(service, code, reason or code.name, field, told, violations_of(error))
