"""What the tests of the world share: an anchor, a fast clock, a platform that writes down what it hears."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.message import Message

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.rnd.v1 import service_pb2 as rnd
from pharmaloop.traceability.v1 import service_pb2 as traceability
from services.kit.clock import PlatformClock

ANCHOR = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
#: So fast that half an hour of the platform passes in a blink.
CLOCK = PlatformClock(ANCHOR, datetime.now(UTC) - timedelta(seconds=1), 1_000_000.0)


class _Method:
    """Stands for a method of a stub: its answer is made by the recorder."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Stub:
    def __getattr__(self, name: str) -> _Method:
        return _Method(name)


class Recorder:
    """In place of `Platform`: keeps every request; `answers` says what comes back, else an empty answer."""

    def __init__(self) -> None:
        self.production = self.traceability = self.clinical = self.loops = _Stub()
        self.rnd = self.exchange = self.production
        self.sent: list[tuple[str, str, Message]] = []
        self.answers: dict[str, Callable[[Any], Any]] = {}

    def clinical_at(self, site: str) -> _Stub:
        return self.clinical

    async def call(self, method: _Method, request: Any, actor: str, seconds: float = 1.0) -> Any:
        copied = type(request)()
        copied.CopyFrom(request)
        self.sent.append((method.name, actor, copied))
        make = self.answers.get(method.name)
        return make(request) if make else _empty(method.name)

    async def pages(self, method: _Method, request: Any, actor: str) -> AsyncIterator[Any]:
        yield await self.call(method, request, actor)

    async def wait_until_serving(self) -> None:
        """It always serves."""

    async def lag(self) -> int:
        return 0

    def of(self, name: str) -> list[Any]:
        return [request for method, _, request in self.sent if method == name]


def _empty(method: str) -> Any:
    """The empty answer of a method, whichever service it belongs to."""
    for package in (production, traceability, clinical, loops, rnd, exchange):
        if found := getattr(package, f"{method}Response", None):
            return found()
    raise AssertionError(method)


async def for_a_while(work: Any, seconds: float = 0.1) -> None:
    """Let an actor that never ends act for a moment."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(work, seconds)
