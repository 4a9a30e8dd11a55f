"""The public gRPC APIs of the platform, as the simulated industry reaches them.

A call to a service that is away is repeated with the same request id until
the service is back; a refusal is raised as `Refused`, with reason and field.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from grpc import aio

from pharmaloop.clinical.v1 import service_pb2_grpc as clinical_grpc
from pharmaloop.common.v1 import service_pb2 as common_api
from pharmaloop.common.v1 import service_pb2_grpc as common_grpc
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import service_pb2_grpc as exchange_grpc
from pharmaloop.loops.v1 import service_pb2_grpc as loops_grpc
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from pharmaloop.rnd.v1 import service_pb2_grpc as rnd_grpc
from pharmaloop.traceability.v1 import service_pb2_grpc as traceability_grpc
from services.kit import hospitals
from services.kit.errors import Unknown
from services.kit.hospitals import CLINICAL, FIRST
from services.kit.metrics import RPC_SECONDS, Metrics
from services.kit.rpc.client import channel, metadata
from services.kit.rpc.errors import AGAIN, reason_of

M = TypeVar("M", bound=Message)
Say = Callable[[str], None]

NEEDED = ("production", "traceability", CLINICAL, "loops", "rnd", "exchange")
SECONDS = 15.0
_PAUSE, _LONGEST_PAUSE = 0.2, 2.0
#: The service failed inside: worth a few tries, then somebody must look.
_PERHAPS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
_TRIES = 8
_PAGE = 1000


class Refused(Exception):
    """A service said no, and would say no again."""

    def __init__(self, method: str, code: grpc.StatusCode, reason: str, field: str, details: str) -> None:
        where = f" ({field})" if field else ""
        super().__init__(f"{method} was refused: {reason or code.name}{where}: {details}")
        self.code = code
        self.reason = reason


class Platform:
    """Stubs of the services, and one way to call them."""

    def __init__(self, endpoints: Mapping[str, str], metrics: Metrics, say: Say, first: str = FIRST) -> None:
        """`first`: the hospital whose process may be called clinical alone."""
        self._channels = {name: channel(address) for name, address in endpoints.items()}
        self._metrics = metrics
        self._say = say
        self._away: set[str] = set()
        self.production = production_grpc.ProductionServiceStub(self._channels["production"])
        self.traceability = traceability_grpc.TraceabilityServiceStub(self._channels["traceability"])
        self.loops = loops_grpc.LoopsServiceStub(self._channels["loops"])
        self.rnd = rnd_grpc.RndServiceStub(self._channels["rnd"])
        self.exchange = exchange_grpc.ExchangeServiceStub(self._channels["exchange"])
        self._hospitals = {
            site: clinical_grpc.ClinicalServiceStub(self._channels[process])
            for site, process in hospitals.processes(endpoints, first).items()
        }

    def clinical_at(self, site: str) -> Any:
        """The process of a hospital: its own endpoint; that of the first may be called clinical alone."""
        if site not in self._hospitals:
            raise Unknown("UNKNOWN_SITE", hospitals.unknown(site, self._hospitals), "site")
        return self._hospitals[site]

    async def call(
        self,
        method: Callable[..., Awaitable[M]],
        request: Message,
        actor: str,
        seconds: float = SECONDS,
    ) -> M:
        """The answer to a call, which may take so many seconds; Refused when the service says no."""
        name = _method_name(method)
        pause, tries = _PAUSE, 0
        while True:
            started = time.perf_counter()
            try:
                answer = await method(request, timeout=seconds, metadata=metadata(actor))
            except aio.AioRpcError as error:
                self._measure(name, error.code().name, started)
                tries += error.code() in _PERHAPS
                if error.code() not in AGAIN and not 0 < tries < _TRIES:
                    raise _refused(name, error) from None
                self._note_away(name, error)
            else:
                self._measure(name, "OK", started)
                self._away.discard(name)
                return answer
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def pages(self, method: Callable[..., Awaitable[M]], request: Any, actor: str) -> AsyncIterator[M]:
        """Every page of a list."""
        request.page_size = _PAGE
        while True:
            answer = await self.call(method, request, actor)
            yield answer
            request.page_token = getattr(answer, "next_page_token", "")
            if not request.page_token:
                return

    async def wait_until_serving(self) -> None:
        """Return when every service that the world needs says that it serves."""
        for name in [name for name in self._channels if name.partition(".")[0] in NEEDED]:
            stub = common_grpc.StatusServiceStub(self._channels[name])
            while (
                await self.call(stub.GetStatus, common_api.GetStatusRequest(), "world")
            ).health != "serving":
                await asyncio.sleep(_PAUSE)

    async def lag(self) -> int:
        """Records and outbox rows that the services have still to take."""
        total = 0
        for target in self._channels.values():
            stub = common_grpc.StatusServiceStub(target)
            status = await self.call(stub.GetStatus, common_api.GetStatusRequest(), "world")
            total += status.outbox_waiting + sum(runner.lag for runner in status.runners)
        return total

    async def close(self) -> None:
        for target in self._channels.values():
            await target.close()

    def _measure(self, method: str, code: str, started: float) -> None:
        self._metrics.observe(RPC_SECONDS, time.perf_counter() - started, method=method, code=code)

    def _note_away(self, method: str, error: aio.AioRpcError) -> None:
        """Say once that a service is away; the retries are silent."""
        if method not in self._away:
            self._away.add(method)
            self._say(f"{method}: {error.code().name}, trying again until it answers")


def check_facts(receipt: common.FactReceipt, what: str) -> None:
    """The simulated sources send only well-formed facts: a refusal is a fault of the world."""
    if receipt.refused:
        first = receipt.refused[0]
        raise Refused(what, grpc.StatusCode.INVALID_ARGUMENT, first.reason, first.field, first.description)


def _method_name(method: object) -> str:
    raw = getattr(method, "_method", b"")
    name = raw.decode() if isinstance(raw, bytes) else str(raw)
    return name.rsplit(".", 1)[-1] or "call"


def _refused(method: str, error: aio.AioRpcError) -> Refused:
    reason, field = reason_of(error)
    return Refused(method, error.code(), reason, field, error.details() or "")
