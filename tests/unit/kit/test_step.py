"""Steps: what is due is done once in effect, whoever crashes, and nothing due is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as production
from services.kit.clock import PlatformClock, wall_now
from services.kit.contracts import contract
from services.kit.errors import Rejected, Retryable
from services.kit.metrics import STEP_OVERDUE, STEP_RUNNING
from services.kit.runners.decider import Decider
from services.kit.runners.fold import drive as fold
from services.kit.runners.step import Again, StepFunction, StepLost, StepRunner, due_of, progress
from services.kit.store.kinds import Get
from services.kit.store.protocol import Transaction
from services.kit.work import STEPS, Cause, Job, Overlay, Step, Work, run_jobs
from tests.unit.kit.support import LOT, LOT_TOPIC, NOON, Bench, Crash, eventually, running, started

A = "m/item/G/a"
HOUR = timedelta(hours=1)


@pytest.fixture
def bench() -> Bench:
    return Bench("production")


def plan(bench: Bench, *calls: tuple[str, str, datetime]) -> None:
    """Make steps due, as a handler would: (step, key, moment)."""

    def call(work: Work) -> None:
        for step, key, at in calls:
            work.due(step, key, at, lot=key)

    do(bench, call)


def cancel(bench: Bench, step: str, key: str) -> None:
    do(bench, lambda work: work.not_due(step, key))


def do(bench: Bench, call: Callable[[Work], None]) -> None:
    """Run a handler's body in a transaction, as the runners do."""

    def transact(txn: Transaction) -> None:
        overlay = Overlay()
        jobs = run_jobs([Job(Cause("c", NOON, "test"), call)], overlay, contract(), "production")
        assert all(done.error is None for done in fold(txn, jobs))
        txn.write(overlay.plan())

    bench.store.transact(transact)


class Steps:
    """A step function that notes what it was given, and answers as it is told."""

    def __init__(self, *answers: Again | Exception | None) -> None:
        self.ran: list[Step] = []
        self._answers = list(answers)

    async def __call__(self, step: Step) -> Again | None:
        self.ran.append(step)
        answer = self._answers.pop(0) if self._answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def keys(self) -> list[str]:
        return [step.key for step in self.ran]


def runner(bench: Bench, functions: Mapping[str, StepFunction]) -> StepRunner:
    return StepRunner(bench.waiting, bench.clock, bench.metrics, functions)


async def test_a_step_runs_when_its_moment_has_come_on_the_platform_clock(bench: Bench) -> None:
    steps = Steps()
    plan(bench, ("remind", A, NOON + HOUR))
    run = runner(bench, {"remind": steps})
    assert await run.run_due() == 0
    bench.clock.advance(3599)
    assert await run.run_due() == 0
    bench.clock.advance(1)
    assert await run.run_due() == 1
    assert [(step.key, step.payload, due_of(step)) for step in steps.ran] == [(A, {"lot": A}, NOON + HOUR)]
    assert await run.run_due() == 0
    assert not bench.states(STEPS), "what is done is not kept"


async def test_a_commit_wakes_the_runner_before_its_next_look(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.kit.runners.step._POLL_SECONDS", 3600.0)
    steps = Steps()
    run = runner(bench, {"remind": steps})
    run.wake()  # nobody listens yet, and nobody minds
    async with running(run.run()):
        await asyncio.sleep(0.05)
        plan(bench, ("remind", A, NOON))
        await asyncio.to_thread(run.wake)
        await eventually(lambda: steps.keys == [A])


async def test_a_moment_in_another_zone_is_the_same_moment(bench: Bench) -> None:
    # A source's offset is kept in event times, and handlers reckon with those.
    steps = Steps()
    shanghai = timezone(timedelta(hours=8))
    plan(bench, ("remind", "past", (NOON - HOUR).astimezone(shanghai)))
    plan(bench, ("remind", "future", (NOON + HOUR).astimezone(timezone(timedelta(hours=-8)))))
    await runner(bench, {"remind": steps}).run_due()
    assert steps.keys == ["past"]


async def test_a_second_call_moves_a_step(bench: Bench) -> None:
    steps = Steps()
    plan(bench, ("remind", A, NOON))
    plan(bench, ("remind", A, NOON + HOUR))
    run = runner(bench, {"remind": steps})
    assert await run.run_due() == 0
    bench.clock.advance(3600)
    assert await run.run_due() == 1


async def test_a_cancelled_step_does_not_run(bench: Bench) -> None:
    steps = Steps()
    plan(bench, ("remind", A, NOON), ("remind", "B", NOON))
    cancel(bench, "remind", A)
    cancel(bench, "remind", "never there")
    await runner(bench, {"remind": steps}).run_due()
    assert steps.keys == ["B"]


async def test_two_runners_do_a_step_once(bench: Bench) -> None:
    steps = Steps()
    plan(bench, *(("remind", str(n), NOON) for n in range(20)))
    one, two = (runner(bench, {"remind": steps}) for _ in range(2))
    ran = await asyncio.gather(one.run_due(), two.run_due())
    assert sum(ran) == 20
    assert sorted(steps.keys) == sorted(str(n) for n in range(20))


async def test_again_waits_by_the_wall_and_keeps_what_it_was_given(bench: Bench) -> None:
    steps = Steps(Again(5, {"phase": "two"}), Again(5), None)
    plan(bench, ("cut", A, NOON))
    run = runner(bench, {"cut": steps})
    assert await run.run_due() == 1
    assert await run.run_due() == 0, "not before its time"
    bench.clock.advance(5)
    assert await run.run_due() == 1
    bench.clock.advance(5)
    assert await run.run_due() == 1
    assert [step.payload for step in steps.ran] == [{"lot": A}, {"phase": "two"}, {"phase": "two"}]
    assert [step.attempts for step in steps.ran] == [1, 2, 3]
    assert not bench.states(STEPS)


@pytest.mark.parametrize(
    "error", [Retryable("busy"), Rejected("NO", "no"), KeyError("a bug")], ids=["busy", "refused", "bug"]
)
async def test_a_step_that_fails_is_tried_again_and_the_others_go_on(bench: Bench, error: Exception) -> None:
    bad, good = Steps(error, error), Steps()
    plan(bench, ("bad", A, NOON), ("good", A, NOON + timedelta(seconds=1)))
    bench.clock.advance(1)
    run = runner(bench, {"bad": bad, "good": good})
    await run.run_due()
    assert good.keys == [A]
    assert list(bench.states(STEPS)) == [f"bad|{A}"], "a failed step was forgotten"
    assert await run.run_due() == 0, "it would turn as fast as it can"
    for _ in range(2):
        bench.clock.advance(10)
        await run.run_due()
    assert len(bad.ran) == 3
    assert not bench.states(STEPS)


async def test_a_step_that_nobody_knows_is_kept_and_stops_nobody(bench: Bench) -> None:
    # A newer version of the service left it: the rollback must not end the service.
    good = Steps()
    plan(bench, ("newer", A, NOON), ("good", A, NOON))
    await runner(bench, {"good": good}).run_due()
    assert good.keys == [A]
    assert list(bench.states(STEPS)) == [f"newer|{A}"]


async def test_a_runner_goes_on_when_the_database_was_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, run = Steps(), None
    plan(bench, ("remind", A, NOON))
    calls: list[int] = []
    not_after = bench.waiting.not_after

    async def away(*args: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            raise Retryable("no primary")
        return await not_after(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.waiting, "not_after", away)
    run = runner(bench, {"remind": steps})
    async with running(run.run()):
        await eventually(lambda: steps.keys == [A])


def start_lot(work: Work, request: production.LotStarted) -> common.LotKey:
    work.apply(LOT, request.lot, request)
    return common.LotKey(lot=request.lot)


async def test_a_crash_before_the_end_repeats_the_step_and_not_its_effect(bench: Bench) -> None:
    def submitting(decider: Decider, crash: bool) -> StepFunction:
        async def step(row: Step) -> Again | None:
            lot = started(row.payload["lot"])
            await decider.submit("StartLot", lot, request_id=f"{row.step}|{row.key}", actor="platform")
            if crash:
                raise Crash
            return None

        return step

    plan(bench, ("start", A, NOON))
    async with bench.deciding({"StartLot": start_lot}) as decider:
        with pytest.raises(Crash):
            await runner(bench, {"start": submitting(decider, crash=True)}).run_due()
        successor = runner(bench, {"start": submitting(decider, crash=False)})
        assert await successor.run_due() == 0, "its lease has not run out"
        bench.clock.advance(31)
        assert await successor.run_due() == 1
    assert bench.versions(LOT) == {A: 1}
    assert len(bench.read(LOT_TOPIC)) == 1
    assert not bench.states(STEPS)


async def test_a_step_that_is_made_due_while_it_runs_runs_again(bench: Bench) -> None:
    plan(bench, ("remind", A, NOON))
    ran = []

    async def step(row: Step) -> Again | None:
        ran.append(row.due)
        if len(ran) == 1:
            plan(bench, ("remind", A, NOON + HOUR))  # something new came in meanwhile
        return None

    run = runner(bench, {"remind": step})
    await run.run_due()
    bench.clock.advance(3600)
    await run.run_due()
    assert len(ran) == 2


async def test_a_step_that_was_cancelled_and_made_anew_while_it_ran_is_another(bench: Bench) -> None:
    # Both have the same version, for the count begins anew with the row.
    plan(bench, ("remind", A, NOON))
    ran = []

    async def step(row: Step) -> Again | None:
        ran.append(row.due)
        if len(ran) == 1:
            cancel(bench, "remind", A)
            plan(bench, ("remind", A, NOON + HOUR))
            plan(bench, ("remind", A, NOON + 2 * HOUR))
        return None

    run = runner(bench, {"remind": step})
    await run.run_due()
    assert list(bench.states(STEPS)) == [f"remind|{A}"], "the end of the first took the second with it"
    bench.clock.advance(7200)
    await run.run_due()
    assert len(ran) == 2


async def test_steps_that_wait_do_not_starve_those_that_are_due(bench: Bench) -> None:
    waiting, fresh = Steps(*[Again(60)] * 300), Steps()
    plan(bench, *(("wait", str(n), NOON - HOUR) for n in range(300)))
    run = runner(bench, {"wait": waiting, "fresh": fresh})
    while len(waiting.ran) < 300:
        assert await run.run_due()
    plan(bench, ("fresh", A, NOON))
    assert await run.run_due() == 1
    assert fresh.keys == [A]


class Gate:
    """A step that runs until it is let go."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.ended: list[str] = []
        self.open = asyncio.Event()

    async def __call__(self, row: Step) -> Again | None:
        self.running.append(row.key)
        try:
            await self.open.wait()
        finally:
            self.ended.append(row.key)
        return None


async def test_a_slow_step_does_not_hold_the_others(bench: Bench) -> None:
    slow, quick = Gate(), Steps()
    plan(bench, ("slow", "s", NOON - HOUR))
    run = runner(bench, {"slow": slow, "quick": quick})
    async with running(run.run()):
        await eventually(lambda: slow.running == ["s"])
        for n in range(5):
            plan(bench, ("quick", str(n), NOON))
            await eventually(lambda n=n: str(n) in quick.keys)  # type: ignore[misc]
        running_now = bench.metrics.registry.get_sample_value(STEP_RUNNING.name, {"service": "production"})
        assert running_now >= 1  # type: ignore[operator]
        assert not slow.ended
        slow.open.set()
        await eventually(lambda: not bench.states(STEPS))
    assert slow.running == ["s"]


async def test_not_everything_runs_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.kit.runners.step._AT_ONCE", 3)
    gate = Gate()
    plan(bench, *(("slow", str(n), NOON - HOUR + timedelta(seconds=n)) for n in range(8)))
    async with running(runner(bench, {"slow": gate}).run()):
        await eventually(lambda: len(gate.running) == 3)
        await asyncio.sleep(0.15)
        assert gate.running == ["0", "1", "2"], "the oldest first, and no more"
        gate.open.set()
        await eventually(lambda: not bench.states(STEPS))
    assert sorted(gate.running) == [str(n) for n in range(8)]


async def test_a_step_that_runs_longer_than_its_lease_is_not_run_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.kit.runners.step._RENEW_SECONDS", 0.01)
    gate, other = Gate(), Steps()
    plan(bench, ("slow", A, NOON))
    async with running(runner(bench, {"slow": gate}).run()):
        await eventually(lambda: gate.running == [A])
        for _ in range(4):
            before = bench.states(STEPS)[f"slow|{A}"].lease
            bench.clock.advance(20)
            await eventually(lambda before=before: bench.states(STEPS)[f"slow|{A}"].lease > before)  # type: ignore[misc]
            assert await runner(bench, {"slow": other}).run_due() == 0
        gate.open.set()
        await eventually(lambda: not bench.states(STEPS))
    assert not other.ran


async def test_a_process_that_was_paused_past_its_lease_gives_the_step_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.kit.runners.step._RENEW_SECONDS", 0.05)
    paused, second = Gate(), Gate()
    plan(bench, ("slow", A, NOON))
    async with running(runner(bench, {"slow": paused}).run()):
        await eventually(lambda: paused.running == [A])
        bench.clock.advance(31)
        async with running(runner(bench, {"slow": second}).run_due()):
            await eventually(lambda: second.running == [A])
            await eventually(lambda: paused.ended == [A])
            assert list(bench.states(STEPS)) == [f"slow|{A}"], "the paused one ended the other's row"
            second.open.set()
            await eventually(lambda: not bench.states(STEPS))
    assert paused.running == [A]


async def test_a_step_that_moves_its_own_row_runs_to_its_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its command makes the step due again; what it does after that must not be cut off.
    monkeypatch.setattr("services.kit.runners.step._RENEW_SECONDS", 0.01)
    ended = []

    async def step(row: Step) -> Again | None:
        plan(bench, ("slow", A, NOON + HOUR))
        await asyncio.sleep(0.1)
        ended.append(row.due)
        return None

    plan(bench, ("slow", A, NOON))
    assert await runner(bench, {"slow": step}).run_due() == 1
    assert len(ended) == 1
    assert bench.states(STEPS)[f"slow|{A}"].due == "2026-03-01T13:00:00.000000+00:00"


async def test_a_long_step_goes_on_where_it_was_interrupted(bench: Bench) -> None:
    seen, done = [], []

    async def step(row: Step) -> Again | None:
        seen.append(row.payload.get("done", "0"))
        for n in range(int(row.payload.get("done", "0")), 5):
            done.append(n)
            await progress({**row.payload, "done": str(n + 1)})
            if n == 2 and len(seen) == 1:
                raise Crash
        return None

    plan(bench, ("long", A, NOON))
    with pytest.raises(Crash):
        await runner(bench, {"long": step}).run_due()
    bench.clock.advance(31)
    assert await runner(bench, {"long": step}).run_due() == 1
    assert seen == ["0", "3"]
    assert done == [0, 1, 2, 3, 4]
    assert not bench.states(STEPS)


async def test_progress_is_not_stored_over_what_somebody_else_made_of_the_row(bench: Bench) -> None:
    lost = []

    async def step(row: Step) -> Again | None:
        plan(bench, ("long", A, NOON + HOUR))
        try:
            await progress({"done": "1"})
        except StepLost:
            lost.append(row.key)
            raise
        return None

    plan(bench, ("long", A, NOON))
    await runner(bench, {"long": step}).run_due()
    assert lost == [A]
    row = bench.states(STEPS)[f"long|{A}"]
    assert (row.payload, row.lease, row.attempts) == ({"lot": A}, "", 0)


async def test_a_stop_ends_what_runs_and_its_row_stands(bench: Bench) -> None:
    gate = Gate()
    plan(bench, ("slow", A, NOON))
    async with running(runner(bench, {"slow": gate}).run()):
        await eventually(lambda: gate.running == [A])
    assert gate.ended == [A]
    assert list(bench.states(STEPS)) == [f"slow|{A}"]


async def test_the_age_of_the_oldest_due_step_is_told_in_wall_seconds(bench: Bench) -> None:
    clock = PlatformClock(NOON, wall_now(), speed=600.0)
    run = StepRunner(bench.waiting, clock, bench.metrics, {"remind": Steps(Again(60))})

    def overdue(step: str = "remind") -> float:
        labels = {"service": "production", "step": step}
        return bench.metrics.registry.get_sample_value(STEP_OVERDUE.name, labels) or 0.0

    await run.run_due()
    assert overdue() == 0
    plan(bench, ("remind", A, clock.now() - timedelta(seconds=6000)))
    plan(bench, ("newer", A, clock.now() - timedelta(seconds=60_000)))
    await run.run_due()
    assert 10 <= overdue() < 40
    assert 100 <= overdue("newer") < 130, "one that nobody here knows is overdue too"
    cancel(bench, "remind", A)
    await run.run_due()
    assert overdue() == 0


async def test_a_process_that_runs_no_steps_tells_how_long_they_are_overdue(bench: Bench) -> None:
    """Where whoever runs them is missing, nobody else would."""
    steps = Steps()
    plan(bench, ("remind", A, NOON))
    bench.clock.advance(90)
    async with running(runner(bench, {"remind": steps}).keep_telling()):
        labels = {"service": "production", "step": "remind"}
        await eventually(lambda: bench.metrics.registry.get_sample_value(STEP_OVERDUE.name, labels) == 90)
    assert not steps.ran


async def test_a_step_row_is_read_as_it_was_written(bench: Bench) -> None:
    plan(bench, ("remind", A, NOON))
    found = bench.store.transact(lambda txn: txn.load([Get(STEPS, f"remind|{A}")]))
    ((stored,),) = found.values()
    assert stored.state == Step("remind", A, "2026-03-01T12:00:00.000000+00:00", {"lot": A})
