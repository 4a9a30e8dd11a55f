"""What a process starts in each role: what it needs, and no more."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from pharmaloop.common.v1 import service_pb2 as common
from services.kit import app
from services.kit.app import App, Running, ServiceSpec
from services.kit.bus.protocol import Partition
from services.kit.clock import ManualClock, wall_now
from services.kit.errors import Invalid, Retryable
from services.kit.metrics import Metrics
from services.kit.rpc.status import StatusServicer
from services.kit.settings import ServiceSettings
from services.kit.store.memory import AsyncMemoryStore, MemoryDatabase

_PLACE = Partition("production.deviations.v1", 0)


async def _for_ever() -> None:
    await asyncio.Event().wait()


class _Parts:
    """The parts of a service, of which each only notes that it was begun."""

    def __init__(self, **spec: Any) -> None:
        self.begun: list[str] = []
        self.others = False
        self.spec = ServiceSpec(
            name="alerting",
            connect=spec.pop("connect", lambda app: self.begun.append("handlers")),
            servicer=lambda app, server: self.begun.append("api"),
            steps=self._steps,
            on_start=self._part("on_start", ends=True),
            background=self._part("background"),
            **spec,
        )
        self.app: Any = SimpleNamespace(
            spec=self.spec,
            settings=ServiceSettings(),
            metrics=Metrics("alerting"),
            restored=None,
            tls=None,
            expiry=SimpleNamespace(papers=[]),
            bell=SimpleNamespace(listeners=[]),
            store=AsyncMemoryStore(MemoryDatabase()),
            clock=ManualClock(),
            version="1",
            ready=True,
            started=wall_now(),
            runners=[],
            loops=[],
            leaving=[],
            site="",
            decider=SimpleNamespace(run=self._part("decider")),
            relay=SimpleNamespace(
                run=self._part("relay"),
                keep_telling=self._part("tells what waits"),
                drain=self._drain,
                close=lambda: None,
                wake=lambda: None,
            ),
            makings=SimpleNamespace(
                start=self._part("makings", ends=True),
                run=_for_ever,
                runners=[],
                stop=self._part("stopped", ends=True),
            ),
            readiness=SimpleNamespace(
                reasons=list,
                told_ready=lambda ready: None,
                leave=lambda clean: None,
                watch_database=_for_ever,
                watch_backbone=_for_ever,
                watch_loops=_for_ever,
            ),
            watching=SimpleNamespace(close=lambda: None, leave=self._part("left", ends=True)),
            own=SimpleNamespace(note=lambda: self.begun.append("own log")),
            producer=SimpleNamespace(close=lambda: None),
            batch_store=SimpleNamespace(close=lambda: None, outbox_stream=self._stream),
        )
        self.app.readiness.presence = SimpleNamespace(others=lambda: self.others)
        self.app.store.close = self._part("closed", ends=True)

    def _stream(self) -> None:
        self.begun.append("hears others")
        raise AutoReconnect

    def _steps(self, app: App) -> dict[str, Any]:
        self.begun.append("names of steps")
        return {"remind": None}

    def step_runner(self, *_: object) -> Any:
        return SimpleNamespace(
            run=self._part("steps"), keep_telling=self._part("tells what is overdue"), wake=lambda: None
        )

    async def _drain(self, seconds: float) -> int:
        return 0

    def _part(self, name: str, *, ends: bool = False) -> Any:
        async def run(*_: object) -> None:
            self.begun.append(name)
            if not ends:
                await _for_ever()

        # What runs on is named by its function.
        run.__name__ = name
        return run

    async def of(self, role: str) -> set[str]:
        """What a process of this role begins."""
        running = Running(self.app, role)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(app, "StepRunner", self.step_runner)
            try:
                await running.start()
                await asyncio.sleep(0.05)
                return set(self.begun)
            finally:
                await running.stop()


async def test_each_role_starts_what_it_needs() -> None:
    decides = {"handlers", "decider", "makings", "names of steps"}
    works = {"steps", "background", "on_start", "own log"}
    # Whoever relays or works may be missing: those who decide tell it.
    assert await _Parts().of("api") == decides | {"api", "tells what waits", "tells what is overdue"}
    assert await _Parts().of("worker") == decides | works | {"tells what waits"}
    assert await _Parts().of("relay") == {"relay", "hears others"}
    assert await _Parts().of("all") == decides | works | {"api", "relay"}


async def test_who_does_everything_hears_of_others_when_there_are_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "_OTHERS_SECONDS", 0.001)
    alone, joined = _Parts(), _Parts()
    joined.others = True
    assert "hears others" not in await alone.of("all")
    assert "hears others" in await joined.of("all")


@pytest.mark.parametrize("role", ["api", "worker", "all"])
async def test_handlers_are_connected_before_they_are_called(role: str) -> None:
    parts = _Parts()
    await parts.of(role)
    assert parts.begun[0] == "handlers"


async def test_what_a_handler_cannot_be_without_keeps_the_process_from_starting() -> None:
    def refuse(app: App) -> None:
        raise Invalid("BAD_SETTING", "PHARMALOOP_X: say where", "PHARMALOOP_X")

    parts = _Parts(connect=refuse)
    with pytest.raises(Invalid):
        await parts.of("api")
    assert not parts.begun or "api" not in parts.begun


class _Log:
    def __init__(self, *, silent: bool = False) -> None:
        self.silent = silent

    def ends(self, topics: object) -> dict[Partition, int]:
        if self.silent:
            raise Retryable("Kafka did not answer")
        return {_PLACE: 10}

    def starts(self, topics: object) -> dict[Partition, int]:
        return {_PLACE: 0}


async def test_an_api_tells_of_the_runners_that_others_run() -> None:
    async def stands(runner: str) -> dict[Partition, int]:
        return {_PLACE: 7}

    parts, log = _Parts(), _Log()
    parts.app.watched = []
    parts.app.elsewhere = [SimpleNamespace(name="alerting.alerts", generation=2, topics=(_PLACE.topic,))]
    parts.app.positions = SimpleNamespace(of=stands)
    parts.app.bus = SimpleNamespace(log=lambda: log)
    parts.app.readiness.reasons = list
    parts.app.contract_digest = "d"
    answer = await StatusServicer(parts.app).GetStatus(common.GetStatusRequest(), None)
    (runner,) = answer.runners
    assert (runner.name, runner.state) == ("alerting.alerts", "elsewhere")
    assert (runner.lag, runner.generation) == (3, 2)
    assert [(p.topic, p.partition, p.offset) for p in answer.positions.positions] == [(*_PLACE, 6)]

    log.silent = True
    answer = await StatusServicer(parts.app).GetStatus(common.GetStatusRequest(), None)
    assert answer.runners[0].state == "elsewhere", "just when Kafka is silent, the status has to answer"
    assert answer.positions.positions, "the database still tells where they stand"
