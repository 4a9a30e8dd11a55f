"""The live line: who watches hears of it, goes on exactly where it broke off, or is told to look."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode, aio

from pharmaloop.common.v1 import changes_pb2 as changes
from services.portal import live
from services.portal.live import Hub, of_site

_OPENED = "pharmaloop.loops.v1.SafetyRunOpened"


class Services:
    """Processes that tell of changes as the test says."""

    processes = ("loops", "production")

    def __init__(self) -> None:
        self.told: dict[str, asyncio.Queue[Any]] = {name: asyncio.Queue() for name in self.processes}
        self.asked: list[tuple[str, Any]] = []

    async def watch(self, process: str, after: Any) -> AsyncIterator[Any]:
        self.asked.append((process, after))
        while True:
            one = await self.told[process].get()
            if isinstance(one, Exception):
                raise one
            yield one

    def change(self, process: str, id: str, type: str = _OPENED, n: int = 1, site: str = "") -> None:
        answer = changes.WatchChangesResponse(changes=[changes.Change(id=id, type=type, site=site)])
        answer.position.positions.add(topic="t", partition=0, offset=n)
        self.told[process].put_nowait(answer)

    def breaks(self, process: str, code: StatusCode = StatusCode.UNAVAILABLE) -> None:
        empty = aio.Metadata()
        self.told[process].put_nowait(aio.AioRpcError(code, empty, empty))


@pytest.fixture
async def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    monkeypatch.setattr(live, "_TOGETHER_SECONDS", 0.0)
    monkeypatch.setattr(live, "_AGAIN_SECONDS", 0.0)
    return Services()


@pytest.fixture
async def hub(services: Services) -> AsyncIterator[Hub]:
    made = Hub(services)  # type: ignore[arg-type]
    made.start()
    yield made
    await made.stop()


class Line:
    """An open page's line; `next` is what it hears."""

    def __init__(self, hub: Hub, *watched: str, last: str = "") -> None:
        self._stream = hub.stream(frozenset(watched), last)
        self.last = last

    async def next(self) -> tuple[str, Any]:
        async with asyncio.timeout(2):
            text = await anext(self._stream)
        kind, mark, data = (line.partition(": ")[2] for line in text.strip().split("\n"))
        self.last = mark
        return kind, json.loads(data)


async def test_who_watches_it_hears_of_it_and_of_nothing_else(hub: Hub, services: Services) -> None:
    line = Line(hub, "run-1", "domain:production")
    assert (await line.next())[0] == "open"
    services.change("loops", "run-2")
    services.change("loops", "run-1")
    assert (await line.next()) == ("change", {"names": ["run-1"], "away": []})
    services.change("production", "lot", "pharmaloop.production.v1.LotHeld")
    assert (await line.next())[1]["names"] == ["domain:production"]


async def test_a_page_of_one_hospital_hears_of_its_own_and_of_no_other(hub: Hub, services: Services) -> None:
    watched = of_site("hospital-a", ("type:NoticeRecorded", "type:PlansOpened", "type:LoopClosed"))
    assert watched == ("hospital-a/type:NoticeRecorded", "hospital-a/type:PlansOpened", "type:LoopClosed")
    line = Line(hub, *watched)
    await line.next()
    noticed, opened = "pharmaloop.clinical.v1.NoticeRecorded", "pharmaloop.clinical.v1.PlansOpened"
    services.change("loops", "p-1", noticed, site="hospital-b")
    services.change("loops", "run-1", opened, site="hospital-b")
    services.change("loops", "run-1", opened, site="hospital-a")
    assert (await line.next())[1]["names"] == ["hospital-a/type:PlansOpened"]
    services.change("production", "run-1", "pharmaloop.loops.v1.LoopClosed")
    assert (await line.next())[1]["names"] == ["type:LoopClosed"]


async def test_a_page_that_comes_back_hears_what_it_missed_and_nothing_twice(
    hub: Hub, services: Services
) -> None:
    first, other = Line(hub, "a", "b", "c"), Line(hub, "a", "b", "c")
    await first.next()
    await other.next()
    services.change("loops", "a")
    assert (await first.next())[1]["names"] == ["a"]
    services.change("loops", "b")
    services.change("loops", "c")
    heard = set()
    while "c" not in heard:
        heard |= set((await other.next())[1]["names"])
    again = Line(hub, "a", "b", "c", last=first.last)
    assert (await again.next())[0] == "open"
    assert (await again.next())[1]["names"] == ["b", "c"]


async def test_a_mark_of_another_process_or_no_mark_at_all_is_told_to_look(hub: Hub) -> None:
    for mark in ("eJw", "%%%", "x" * 5000):
        assert (await Line(hub, "a", last=mark).next())[0] == "stale"
    other = Hub(Services())  # type: ignore[arg-type]
    assert (await Line(hub, "a", last=other.token()).next())[0] == "stale"


async def test_a_line_says_first_which_version_the_portal_is_of() -> None:
    for last, kind in (("", "open"), ("eJw", "stale")):
        told, data = await Line(Hub(Services(), "7"), "a", last=last).next()  # type: ignore[arg-type]
        assert (told, data["version"]) == (kind, "7")


async def test_a_page_that_slept_longer_than_the_row_reaches_is_told_to_look(
    hub: Hub, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub._row = type(hub._row)(maxlen=3)
    line = Line(hub, "a")
    await line.next()
    for n in range(10):
        services.change("loops", "a", n=n)
    while not services.told["loops"].empty() or hub._number < 10:
        await asyncio.sleep(0)
    assert (await line.next())[0] == "stale"


async def test_after_a_break_it_goes_on_where_it_broke_off(hub: Hub, services: Services) -> None:
    line = Line(hub, "a", "service:loops")
    await line.next()
    services.change("loops", "a", n=7)
    await line.next()
    services.breaks("loops")
    assert await line.next() == ("change", {"names": ["service:loops"], "away": ["loops"]})
    services.change("loops", "a", n=8)
    heard = set()
    while "a" not in heard:
        heard |= set((await line.next())[1]["names"])
    assert hub.away == set()
    asked = [after for process, after in services.asked if process == "loops"]
    assert asked[0] is None
    assert asked[-1].positions[0].offset == 7


async def test_a_log_that_is_another_one_now_is_followed_from_its_end(hub: Hub, services: Services) -> None:
    line = Line(hub, "a")
    await line.next()
    services.change("loops", "a", n=7)
    await line.next()
    services.breaks("loops", StatusCode.OUT_OF_RANGE)
    assert (await line.next())[0] == "stale", "what happened in the other log was not told"
    services.change("loops", "a", n=1)
    assert (await line.next())[1]["names"] == ["a"]
    assert [after for process, after in services.asked if process == "loops"][-1] is None


async def test_a_service_that_refuses_every_time_does_not_make_pages_look_for_ever(
    hub: Hub, services: Services
) -> None:
    line = Line(hub, "a")
    await line.next()
    for _ in range(3):
        services.breaks("loops", StatusCode.INVALID_ARGUMENT)
    services.change("production", "a")
    kind, told = await line.next()
    assert (kind, told["names"]) == ("change", ["a"])


async def test_a_line_whose_own_things_rest_beats_while_everything_else_moves(
    hub: Hub, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_HEARTBEAT_SECONDS", 0.2)
    line = Line(hub, "run-1")
    assert (await line.next())[0] == "open"

    async def others() -> None:
        for n in range(1, 1000):
            services.change("loops", f"run-{n + 1}", n=n)
            await asyncio.sleep(0.02)

    busy = asyncio.create_task(others())
    try:
        assert (await line.next())[0] == "beat"
        beaten = line.last
        assert (await line.next())[0] == "beat"
        assert line.last != beaten  # and goes on from what it has passed over
    finally:
        busy.cancel()
