"""What a runner tells of its work: events by type and outcome, what was fenced, what waits."""

from __future__ import annotations

import asyncio
from typing import Any

from pharmaloop.production.v1 import events_pb2 as production
from services.kit.clock import ManualClock
from services.kit.errors import Poison, Retryable
from services.kit.metrics import (
    BATCH_SECONDS,
    DEAD_LETTERS_OPEN,
    FENCED,
    GROUP_LAG,
    HANDLED,
    PROJECTOR_DELAY,
    RUNNER_UP,
    WATERMARK_AGE,
    Metrics,
)
from services.kit.runners.reactor import Reactor
from services.kit.store.memory import AsyncMemoryStore
from services.kit.tallies import keep_telling, tally_letters
from tests.unit.kit.support import LOT_TOPIC, Bench, eventually, lot_event, note_lot, running


def told(bench: Bench, metric: Any, suffix: str = "", **labels: str) -> float | None:
    return bench.metrics.registry.get_sample_value(metric.name + suffix, {"service": "rnd", **labels})


def refuse(work: Any, event: Any) -> None:
    raise Poison("NO_SUCH_LOT", "it is not known")


def test_events_are_counted_by_type_and_by_what_became_of_them() -> None:
    bench = Bench()
    turner = bench.turner({production.LotStarted: note_lot, production.LotHeld: refuse})
    bench.send(lot_event("a", 1), lot_event("b", 1), lot_event("c", 1, production.LotHeld(lot="c")))
    turner.settle()
    started = {"runner": "rnd.test", "type": "production.LotStarted"}
    assert told(bench, HANDLED, **started, outcome="done") == 2
    assert told(bench, HANDLED, **started, outcome="dead") == 0
    assert told(bench, HANDLED, runner="rnd.test", type="production.LotHeld", outcome="dead") == 1
    assert (told(bench, BATCH_SECONDS, "_count", runner="rnd.test") or 0) >= 1


def test_whatever_somebody_sends_makes_one_series_and_anothers_events_none() -> None:
    bench = Bench()
    turner = bench.turner({production.LotStarted: note_lot})
    for n in range(20):
        bench.send_raw(f"k{n}", b"\xff", (("ce_type", f"evil.Type{n}".encode()),))
    bench.send_raw("k", b"", ())
    bench.send(lot_event("z", 1, production.LotHeld(lot="z")))
    turner.settle()
    family = next(
        f for f in bench.metrics.registry.collect() if f.name == HANDLED.name.removesuffix("_total")
    )
    kinds = {s.labels["type"]: s.value for s in family.samples if s.name == HANDLED.name and s.value}
    assert kinds == {"other": 21}
    types = {s.labels["type"] for s in family.samples}
    assert types == {"production.LotStarted", "other"}, (
        "said from the start, so that a first one is an increase"
    )


def test_a_runner_that_was_overtaken_says_so_once() -> None:
    bench = Bench()
    old, new = (bench.turner({production.LotStarted: note_lot}) for _ in range(2))
    bench.send(lot_event("a", 1))
    new.settle()
    assert told(bench, FENCED, part="rnd.test") == 0
    old.turn()
    assert told(bench, FENCED, part="rnd.test") == 1


def test_what_waits_is_told_by_topic_and_of_a_projector_as_what_its_readers_see() -> None:
    bench = Bench()
    projector = bench.turner({production.LotStarted: lambda work, event: None}, emits=False)
    bench.send(lot_event("a", 1))
    projector.settle()
    projector.runner.tell_behind()
    group = {"group": "rnd.test.hospital-a", "topic": LOT_TOPIC}
    assert told(bench, GROUP_LAG, **group) == 0
    assert told(bench, PROJECTOR_DELAY, runner="rnd.test") == 0
    assert told(bench, WATERMARK_AGE, runner="rnd.test") == 0
    records = bench.bus.all(LOT_TOPIC)
    projector.runner._counts.behind.took([records[0]._replace(timestamp_ms=1_000)])
    projector.runner.tell_behind()
    assert (told(bench, GROUP_LAG, **group) or 0) > 1e9, "it hangs on a record of 1970"
    assert (told(bench, PROJECTOR_DELAY, runner="rnd.test") or 0) > 1e9


def test_the_live_making_runs_though_the_one_it_replaced_has_ended() -> None:
    bench = Bench()
    reactor = Reactor("test", {production.LotStarted: note_lot}, emits=False)
    old, new = bench.making(reactor), bench.making(reactor, 2)
    new.runner._state("running")
    old.runner._state("stopped")
    new.runner.tell_behind()
    assert told(bench, RUNNER_UP, runner="rnd.test") == 1


def test_letters_that_wait_are_counted_and_settled_ones_are_not() -> None:
    async def story() -> None:
        bench = Bench()
        turner = bench.turner({production.LotStarted: refuse})
        bench.send(lot_event("a", 1), lot_event("b", 1))
        turner.settle()
        metrics = Metrics("rnd")
        await tally_letters(bench.waiting, metrics, ["rnd.test", "rnd.idle"])
        value = metrics.registry.get_sample_value
        assert value(DEAD_LETTERS_OPEN.name, {"service": "rnd", "runner": "rnd.test"}) == 2
        assert value(DEAD_LETTERS_OPEN.name, {"service": "rnd", "runner": "rnd.idle"}) == 0

    asyncio.run(story())


def test_a_count_that_fails_ends_nothing(monkeypatch: Any) -> None:
    monkeypatch.setattr("services.kit.tallies._SECONDS", 0.001)
    calls: list[int] = []

    async def tally(store: Any, clock: Any, metrics: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise Retryable("the database is away")
        if len(calls) == 2:
            raise ValueError("a bug")

    async def story() -> None:
        bench = Bench()
        store: AsyncMemoryStore = bench.waiting
        async with running(keep_telling(store, ManualClock(), bench.metrics, lambda: ["rnd.test"], tally)):
            await eventually(lambda: len(calls) > 3)

    asyncio.run(story())
