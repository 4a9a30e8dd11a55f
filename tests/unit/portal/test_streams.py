"""Rows of a streamed answer: whole when it says so, no more than are drawn, held while a reader steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pharmaloop.traceability.v1 import service_pb2 as trace
from services.portal.backend import Backend
from services.portal.settings import PortalSettings


class Call:
    """A stream of messages of a hundred lots each, with or without its end."""

    def __init__(self, messages: int, *, ends: bool) -> None:
        self._messages = messages
        self._ends = ends
        self.cancelled = False

    async def __aiter__(self) -> AsyncIterator[trace.TraceLotResponse]:
        for n in range(self._messages):
            yield trace.TraceLotResponse(lots=[trace.TracedLot(lot=f"{n}/{m}") for m in range(100)])
        if self._ends:
            yield trace.TraceLotResponse(end=trace.TraceEnd(lots=100 * self._messages))

    def cancel(self) -> None:
        self.cancelled = True


class Stub:
    """Gives one stream; counts how often it is asked."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.asked = 0

    def TraceLot(self, request: Any, **_: Any) -> Call:
        self.asked += 1
        return self.call


@pytest.mark.parametrize(
    ("messages", "ends", "rows", "complete"),
    [(3, True, 300, True), (3, False, 300, False), (9, True, 500, False), (0, True, 0, True)],
)
def test_a_stream_is_whole_by_its_end_and_cut_at_the_most(
    monkeypatch: pytest.MonkeyPatch, messages: int, ends: bool, rows: int, complete: bool
) -> None:
    stub = Stub(Call(messages, ends=ends))
    backend = Backend({}, PortalSettings())
    monkeypatch.setattr(backend, "_stub", lambda service: stub)

    async def twice() -> list[tuple[list[Any], bool]]:
        return [
            await backend.rows("traceability", "TraceLot", "lots", most=500, lot="a/b/c/d") for _ in range(2)
        ]

    first, again = asyncio.run(twice())
    assert (len(first[0]), first[1]) == (rows, complete)
    assert again == first
    assert stub.asked == 1
    assert stub.call.cancelled is (messages == 9)
