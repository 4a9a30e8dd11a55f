"""The decider: one answer for each request, and commands that wait together are one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.production.v1 import service_pb2 as production_api
from services.kit import metrics
from services.kit.errors import Invalid, Rejected, Retryable, Unknown
from services.kit.runners import decider as kit_decider
from services.kit.runners.decider import Decider, Decision
from services.kit.store.kinds import Get, Plan, Read
from services.kit.store.protocol import AsyncTransaction, Loaded
from services.kit.work import Work
from tests.unit.kit.support import (
    LOT,
    LOT_TOPIC,
    NOON,
    NOTE,
    Bench,
    CountingStore,
    Lot,
    Note,
    headers,
    started,
)

A, B = "m/item/G/a", "m/item/G/b"


def start_lot(work: Work, request: production.LotStarted) -> Message:
    if work.get(LOT, request.lot) is not None:
        raise Rejected("STARTED", "the lot was started before", "lot")
    work.apply(LOT, request.lot, request)
    return common.LotKey(lot=request.lot)


def hold_lot(work: Work, request: production.LotHeld) -> Message:
    lot = work.get(LOT, request.lot)
    if lot is None:
        raise Unknown("NO_LOT", "start it first", "lot")
    work.apply(LOT, request.lot, request)
    work.apply(LOT, request.lot, production.LotRejected(lot=request.lot))
    return common.LotKey(lot=request.lot)


def spoil(work: Work, request: production.LotStarted) -> Message:
    """Changes, emits, and then finds a rule that says no."""
    work.apply(LOT, request.lot, request)
    work.put(NOTE, "spoilt", Note("half"))
    raise Rejected("NO", "no", "lot")


def break_down(work: Work, request: Message) -> Message:
    work.put(NOTE, "broken", Note("half"))
    raise ZeroDivisionError("a bug of one command")


def put_note(work: Work, request: production.LotStarted) -> Message:
    """Puts a note whose text the request gives."""
    work.put(NOTE, request.lot, Note(request.product))
    return common.LotKey(lot=request.lot)


def put_when_held(work: Work, request: production.LotStarted) -> Message:
    lot = work.get(LOT, request.lot)
    if lot is None or not lot.held:
        raise Rejected("NOT_HELD", "hold it first", "lot")
    work.put(NOTE, request.lot, Note("put"))
    return common.LotKey(lot=request.lot)


def start_many(work: Work, request: common.LotKey) -> Message:
    """The bulk form: many aggregates of one kind, loaded at once."""
    lots = [f"{request.lot}/{n}" for n in range(500)]
    work.load_all([Get(NOTE, request.lot), *(Get(LOT, lot) for lot in lots)])
    for lot in lots:
        if work.get(LOT, lot) is None:
            work.apply(LOT, lot, started(lot))
    work.put(NOTE, request.lot, Note("done"))
    return common.LotKey(lot=request.lot)


COMMANDS: dict[str, Callable[[Work, Any], Message]] = {
    "StartLot": start_lot,
    "HoldLot": hold_lot,
    "Spoil": spoil,
    "BreakDown": break_down,
    "PutNote": put_note,
    "StartMany": start_many,
}


@pytest.fixture
def bench() -> Bench:
    return Bench("production")


async def ask(decider: Decider, method: str, request: Message, id: str, actor: str = "ann") -> Decision:
    return await decider.submit(method, request, request_id=id, actor=actor, trace="00-aa-bb-01")


async def test_a_command_is_answered_with_what_it_did_and_where_that_stands(bench: Bench) -> None:
    async with bench.deciding(COMMANDS) as decider:
        decision = await ask(decider, "StartLot", started(A), "r-1")
    assert common.LotKey.FromString(decision.message) == common.LotKey(lot=A)
    assert not decision.pending
    (event,) = bench.read(LOT_TOPIC)
    assert (event.id,) == decision.event_ids
    assert [(event.topic, event.partition, event.offset)] == [tuple(at) for at in decision.positions]
    assert (event.key, event.subject, event.seq, event.time) == (A, A, 1, NOON)
    assert (event.actor, event.trace, event.source) == ("ann", "00-aa-bb-01", "/svc/production/lot")
    assert event.cause == "", "a request is no event"
    assert event.message == started(A)


async def test_versions_count_by_one_over_commands(bench: Bench) -> None:
    async with bench.deciding(COMMANDS) as decider:
        await ask(decider, "StartLot", started(A), "r-1")
        await asyncio.gather(
            *(ask(decider, "HoldLot", production.LotHeld(lot=A), f"r-{n}") for n in range(2, 5))
        )
    assert [event.seq for event in bench.read(LOT_TOPIC)] == [1, 2, 3, 4, 5, 6, 7]
    assert bench.versions(LOT) == {A: 7}
    assert bench.states(LOT)[A].happened == ("LotStarted", *["LotHeld", "LotRejected"] * 3)


async def test_commands_that_wait_together_are_one_transaction(bench: Bench) -> None:
    store = CountingStore(bench.database)
    async with bench.deciding(COMMANDS, store) as decider:
        asked = [ask(decider, "StartLot", started(f"lot-{n}"), f"r-{n}") for n in range(200)]
        decisions = await asyncio.gather(*asked)
    assert store.transactions == 1
    assert len(bench.states(LOT)) == 200
    assert len({id for decision in decisions for id in decision.event_ids}) == 200
    assert [common.LotKey.FromString(d.message).lot for d in decisions] == [f"lot-{n}" for n in range(200)]


async def test_a_group_has_an_end(bench: Bench) -> None:
    store = CountingStore(bench.database)
    async with bench.deciding(COMMANDS, store) as decider:
        await asyncio.gather(*(ask(decider, "StartLot", started(f"lot-{n}"), f"r-{n}") for n in range(300)))
    assert store.transactions == 2


@pytest.mark.parametrize("together", [True, False], ids=["in one group", "one after the other"])
async def test_a_refusal_is_repeated_though_the_rule_would_now_say_yes(bench: Bench, together: bool) -> None:
    """The rule of PutOnce says yes as soon as the lot is held; who asked before is answered as before."""
    commands = COMMANDS | {"PutOnce": put_when_held}
    async with bench.deciding(commands) as decider:
        await ask(decider, "StartLot", started(A), "r-0")
        if together:
            asked = [ask(decider, "PutOnce", started(A), "r-1"), ask(decider, "PutOnce", started(A), "r-1")]
            refused = await asyncio.gather(*asked, return_exceptions=True)
        else:
            refused = []
            for _ in range(2):
                with pytest.raises(Rejected) as caught:
                    await ask(decider, "PutOnce", started(A), "r-1")
                refused.append(caught.value)
                if len(refused) == 1:
                    await ask(decider, "HoldLot", production.LotHeld(lot=A), "r-2")
    for error in refused:
        assert isinstance(error, Rejected)
        assert (error.reason, error.description, error.field) == ("NOT_HELD", "hold it first", "lot")
    assert bench.states(NOTE) == {}


async def test_what_was_not_known_yet_is_decided_under_the_same_id_once_it_is_here(bench: Bench) -> None:
    """Nothing was decided about it: the refusal is told and not kept. Then the decision is."""
    hold = production.LotHeld(lot=A)
    async with bench.deciding(COMMANDS) as decider:
        for _ in range(2):
            with pytest.raises(Unknown, match="start it first") as caught:
                await ask(decider, "HoldLot", hold, "r-1")
            assert (caught.value.reason, caught.value.field) == ("NO_LOT", "lot")
        await ask(decider, "StartLot", started(A), "r-2")
        first = await ask(decider, "HoldLot", hold, "r-1")
        again = await ask(decider, "HoldLot", hold, "r-1")
    assert again.event_ids == first.event_ids
    assert sum(event.type.endswith("LotHeld") for event in bench.read(LOT_TOPIC)) == 1


async def test_what_is_not_known_is_refused_alone_in_its_group(bench: Bench) -> None:
    async with bench.deciding(COMMANDS) as decider:
        unknown, other = await asyncio.gather(
            ask(decider, "HoldLot", production.LotHeld(lot=B), "r-1"),
            ask(decider, "StartLot", started(A), "r-2"),
            return_exceptions=True,
        )
    assert isinstance(unknown, Unknown)
    assert isinstance(other, Decision)
    assert set(bench.states(LOT)) == {A}


async def test_a_signature_goes_into_each_event_of_who_signed_it(bench: Bench) -> None:
    """In the events that the person makes and that have a place for it; what a rule does stays unsigned."""
    signed = "  I stand for it. "

    def hold(work: Work, request: production_api.HoldLotRequest) -> Message:
        work.apply(LOT, request.lot, production.LotHeld(lot=request.lot, actor=work.cause.actor))
        work.apply(LOT, request.lot, production.LotHeld(lot=request.lot, actor="platform"))
        own = production.LotRejected(lot=request.lot, actor=work.cause.actor, meaning="its own")
        work.apply(LOT, request.lot, own)
        return common.LotKey()

    request = production_api.HoldLotRequest(lot=A, meaning=signed)
    async with bench.deciding(COMMANDS | {"Hold": hold}) as decider:
        await ask(decider, "StartLot", started(A), "r-1")
        await ask(decider, "Hold", request, "r-2")
    told: list[Any] = [event.message for event in bench.read(LOT_TOPIC)][1:]
    assert [one.meaning for one in told] == ["I stand for it.", "", "its own"]


async def test_a_meaning_that_nobody_reads_is_refused_with_its_bound(bench: Bench) -> None:
    request = production_api.HoldLotRequest(lot=A, meaning="x" * 2001)
    async with bench.deciding(COMMANDS) as decider:
        await ask(decider, "StartLot", started(A), "r-1")
        with pytest.raises(Invalid, match="at most 2000 characters; these are 2001") as caught:
            await ask(decider, "HoldLot", request, "r-2")
        assert (caught.value.reason, caught.value.field) == ("TOO_LONG", "meaning")
        await ask(decider, "HoldLot", production.LotHeld(lot=A, meaning="x" * 2000), "r-3")
    assert bench.states(LOT)[A].held


async def test_a_request_id_is_the_actors_own(bench: Bench) -> None:
    async with bench.deciding(COMMANDS) as decider:
        await ask(decider, "StartLot", started(A), "1", actor="ann")
        await ask(decider, "StartLot", started(B), "1", actor="bob")
        await ask(decider, "HoldLot", production.LotHeld(lot=A), "1", actor="ann")
    assert set(bench.states(LOT)) == {A, B}
    assert bench.states(LOT)[A].held


async def test_a_refused_command_leaves_no_trace_and_its_group_stands(bench: Bench) -> None:
    async with bench.deciding(COMMANDS) as decider:
        good, bad, other = await asyncio.gather(
            ask(decider, "StartLot", started(A), "r-1"),
            ask(decider, "Spoil", started("spoilt"), "r-2"),
            ask(decider, "StartLot", started(B), "r-3"),
            return_exceptions=True,
        )
    assert isinstance(bad, Rejected)
    assert isinstance(good, Decision)
    assert isinstance(other, Decision)
    assert set(bench.states(LOT)) == {A, B}
    assert not bench.states(NOTE)
    assert sorted(event.subject for event in bench.read(LOT_TOPIC)) == [A, B]


async def test_a_bug_in_one_command_is_that_commands_alone(bench: Bench) -> None:
    async with bench.deciding(COMMANDS) as decider:
        good, bad, other = await asyncio.gather(
            ask(decider, "StartLot", started(A), "r-1"),
            ask(decider, "BreakDown", started(A), "r-2"),
            ask(decider, "StartLot", started(B), "r-3"),
            return_exceptions=True,
        )
        assert isinstance(good, Decision), "a neighbour's bug was this command's end"
        assert isinstance(other, Decision)
        assert isinstance(bad, ZeroDivisionError), "as Retryable, clients would send it again and again"
        assert not bench.states(NOTE)
        with pytest.raises(ZeroDivisionError):  # nothing was stored as its answer: mended code may answer
            await ask(decider, "BreakDown", started(A), "r-2")


async def test_a_later_command_of_a_group_sees_the_earlier_ones(bench: Bench) -> None:
    async with bench.deciding(COMMANDS) as decider:
        first, second, third = await asyncio.gather(
            ask(decider, "StartLot", started(A), "r-1"),
            ask(decider, "StartLot", started(A), "r-2"),
            ask(decider, "HoldLot", production.LotHeld(lot=A), "r-3"),
            return_exceptions=True,
        )
    assert isinstance(first, Decision)
    assert isinstance(second, Rejected)
    assert isinstance(third, Decision)
    assert bench.states(LOT)[A] == Lot(("LotStarted", "LotHeld", "LotRejected"), held=True)


async def test_event_ids_follow_from_the_request(bench: Bench) -> None:
    other = Bench("production")
    decisions = []
    for one in (bench, other):
        async with one.deciding(COMMANDS) as decider:
            await ask(decider, "StartLot", started(A), "r-1")
            decisions.append(await ask(decider, "HoldLot", production.LotHeld(lot=A), "r-2"))
    assert decisions[0].event_ids == decisions[1].event_ids
    assert len(set(decisions[0].event_ids)) == 2


async def test_a_command_without_a_request_id_is_refused(bench: Bench) -> None:
    async with bench.deciding(COMMANDS) as decider:
        with pytest.raises(Invalid) as caught:
            await ask(decider, "StartLot", started(A), "")
    assert (caught.value.reason, caught.value.field) == ("REQUIRED", "request_id")


class Down(CountingStore):
    """A database that is away for its first transactions."""

    def __init__(self, bench: Bench, error: Exception) -> None:
        super().__init__(bench.database)
        self._error = error

    async def transact(self, work: Callable[[AsyncTransaction], Any]) -> Any:
        if self.transactions < 1:
            self.transactions += 1
            raise self._error
        return await super().transact(work)


@pytest.mark.parametrize("error", [Retryable("no primary"), OSError("broken pipe")], ids=["known", "unknown"])
async def test_a_database_that_is_away_is_told_and_the_next_command_goes_on(
    bench: Bench, error: Exception
) -> None:
    async with bench.deciding(COMMANDS, Down(bench, error)) as decider:
        with pytest.raises(Retryable):
            await ask(decider, "StartLot", started(A), "r-1")
        await ask(decider, "StartLot", started(A), "r-1")
    assert set(bench.states(LOT)) == {A}


async def test_a_transaction_that_met_a_change_is_decided_anew(bench: Bench) -> None:
    """Another process starts the lot between this one's reading and writing."""

    class Raced(CountingStore):
        async def transact(self, work: Callable[[AsyncTransaction], Any]) -> Any:
            first = not self.transactions

            async def raced(txn: AsyncTransaction) -> Any:
                nonlocal first
                result = await work(txn)
                if first:
                    first = False
                    self.database.docs[LOT.name][A] = LOT.to_doc(A, 1, Lot(("LotStarted",)))
                return result

            return await super().transact(raced)

    async with bench.deciding(COMMANDS, Raced(bench.database)) as decider:
        with pytest.raises(Rejected, match="STARTED"):
            await ask(decider, "StartLot", started(A), "r-1")
    assert not bench.read(LOT_TOPIC)


async def test_a_caller_that_goes_away_harms_nobody(bench: Bench) -> None:
    async with bench.deciding(COMMANDS) as decider:
        gone = asyncio.ensure_future(ask(decider, "StartLot", started(A), "r-1"))
        await asyncio.sleep(0)
        gone.cancel()
        await ask(decider, "StartLot", started(B), "r-2")
        again = await ask(decider, "StartLot", started(A), "r-1")
    assert common.LotKey.FromString(again.message).lot == A
    assert len(bench.read(LOT_TOPIC)) == 2


async def test_what_is_committed_and_not_published_is_said_to_be_pending(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.kit.runners.decider._POSITION_SECONDS", 0.02)
    async with bench.deciding(COMMANDS) as decider:
        monkeypatch.setattr("services.kit.relay.Relay.publish_once", lambda self: asyncio.sleep(0.01))
        decision = await ask(decider, "StartLot", started(A), "r-1")
    assert decision.pending
    assert decision.positions == ()
    assert len(decision.event_ids) == 1
    assert set(bench.states(LOT)) == {A}
    assert set(bench.database.outbox) == set(decision.event_ids), "it is lost, and not late"


async def test_every_event_is_a_cloud_event(bench: Bench) -> None:
    async with bench.deciding(COMMANDS) as decider:
        await ask(decider, "StartLot", started(A), "r-1")
        await ask(decider, "HoldLot", production.LotHeld(lot=A), "r-2")
    for record in bench.bus.all(LOT_TOPIC):
        told = headers(record)
        assert told["ce_specversion"] == "1.0"
        assert told["ce_type"].startswith("pharmaloop.production.v1.Lot")
        assert all(told[name] for name in ("ce_id", "ce_source", "ce_time", "ce_subject", "traceparent"))


# -- what the database refuses ----------------------------------------------

TOO_LARGE = "x" * 17_000_000


class Refusing(CountingStore):
    """Counts the commands of each transaction, and refuses some for a reason of its own."""

    def __init__(self, bench: Bench, error: Exception, when: Callable[[Plan], bool]) -> None:
        super().__init__(bench.database)
        self._error = error
        self._when = when

    async def transact(self, work: Callable[[AsyncTransaction], Any]) -> Any:
        store = self

        class Judged:
            def __init__(self, txn: AsyncTransaction) -> None:
                self.load = txn.load
                self._txn = txn

            async def write(self, plan: Plan) -> None:
                if store._when(plan):
                    raise store._error
                await self._txn.write(plan)

        return await super().transact(lambda txn: work(Judged(txn)))


async def test_a_state_that_cannot_be_stored_is_its_commands_fault_alone(bench: Bench) -> None:
    store = CountingStore(bench.database)
    async with bench.deciding(COMMANDS, store) as decider:
        asked = [ask(decider, "StartLot", started(f"lot-{n}"), f"r-{n}") for n in range(100)]
        huge = production.LotStarted(lot="huge", product=TOO_LARGE)
        asked.insert(40, ask(decider, "PutNote", huge, "r-huge"))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        refused = answers.pop(40)
        after = await ask(decider, "StartLot", started("after"), "r-after")
    assert isinstance(refused, Rejected)
    assert (refused.reason, type(refused)) == ("UNSTORABLE", Rejected)
    assert "send less" in refused.description
    assert all(isinstance(answer, Decision) for answer in answers), "it took its group with it"
    assert isinstance(after, Decision), "the runner stopped"
    assert len(bench.states(LOT)) == 101
    assert not bench.states(NOTE)
    assert store.transactions <= 20, "each of a hundred had a transaction of its own"


async def test_an_event_that_no_topic_takes_is_refused_where_it_is_planned(bench: Bench) -> None:
    async with bench.deciding(COMMANDS) as decider:
        large = production.LotStarted(lot=A, product="x" * 9_000_000)
        with pytest.raises(Invalid) as caught:
            await ask(decider, "StartLot", large, "r-1")
        await ask(decider, "StartLot", started(B), "r-2")
    assert caught.value.reason == "TOO_LARGE"
    assert "LotStarted" in caught.value.description
    assert set(bench.states(LOT)) == {B}
    assert [event.subject for event in bench.read(LOT_TOPIC)] == [B]


async def test_a_failure_of_one_command_that_nobody_foresaw_is_that_commands_alone(bench: Bench) -> None:
    def has_a(plan: Plan) -> bool:
        return any(write.id == A for write in plan.writes)

    store = Refusing(bench, TypeError("no codec"), has_a)
    async with bench.deciding(COMMANDS, store) as decider:
        bad, good = await asyncio.gather(
            ask(decider, "StartLot", started(A), "r-1"),
            ask(decider, "StartLot", started(B), "r-2"),
            return_exceptions=True,
        )
    assert isinstance(bad, TypeError)
    assert isinstance(good, Decision)


async def test_a_database_that_cannot_now_is_nobodys_fault(bench: Bench) -> None:
    down = [Retryable("OutOfDiskSpace")]
    store = Refusing(bench, down[0], lambda plan: bool(down))
    async with bench.deciding(COMMANDS, store) as decider:
        asked = [ask(decider, "StartLot", started(f"lot-{n}"), f"r-{n}") for n in range(8)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(answer) for answer in answers} == {Retryable}
        assert store.transactions == 1, "they were tried one by one"
        down.clear()
        again = [ask(decider, "StartLot", started(f"lot-{n}"), f"r-{n}") for n in range(8)]
        assert all(isinstance(answer, Decision) for answer in await asyncio.gather(*again))


# -- deadlines and back-pressure --------------------------------------------


class Slow(CountingStore):
    """Commits nothing until it is let."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.database)
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def transact(self, work: Callable[[AsyncTransaction], Any]) -> Any:
        self.begun.set()
        await self.go.wait()
        return await super().transact(work)


async def test_a_command_whose_caller_has_gone_is_not_begun(bench: Bench) -> None:
    store = Slow(bench)
    async with bench.deciding(COMMANDS, store) as decider:
        first = asyncio.ensure_future(ask(decider, "StartLot", started("first"), "r-0"))
        await store.begun.wait()
        gone = asyncio.ensure_future(ask(decider, "StartLot", started(A), "r-1"))
        late = decider.submit("StartLot", started(B), request_id="r-2", actor="ann", seconds=0.06)
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(Retryable, match="same request"):
            await late
        store.go.set()
        await first
        await ask(decider, "StartLot", started("last"), "r-3")
    assert set(bench.states(LOT)) == {"first", "last"}


async def test_a_caller_hears_in_time_though_the_database_does_not_answer(bench: Bench) -> None:
    store = Slow(bench)
    async with bench.deciding(COMMANDS, store) as decider:
        async with asyncio.timeout(1):
            with pytest.raises(Retryable, match="same request"):
                await decider.submit("StartLot", started(A), request_id="r-1", actor="ann", seconds=0.1)
        store.go.set()  # it was begun, and is committed after all
        again = await ask(decider, "StartLot", started(A), "r-1")
    assert isinstance(again, Decision)
    assert bench.versions(LOT) == {A: 1}


async def test_too_many_that_wait_are_told_to_come_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit_decider, "_MAX_WAITING", 5)
    store = Slow(bench)
    async with bench.deciding(COMMANDS, store) as decider:
        first = asyncio.ensure_future(ask(decider, "StartLot", started("first"), "r"))
        await store.begun.wait()
        waiting = [
            asyncio.ensure_future(ask(decider, "StartLot", started(f"lot-{n}"), f"r-{n}")) for n in range(5)
        ]
        await asyncio.sleep(0)
        with pytest.raises(Retryable, match="5 commands wait already"):
            await ask(decider, "StartLot", started(A), "r-a")
        store.go.set()
        await asyncio.gather(first, *waiting)
        assert isinstance(await ask(decider, "StartLot", started(A), "r-a"), Decision)
    assert len(bench.states(LOT)) == 7


async def test_groups_are_measured(bench: Bench) -> None:
    async with bench.deciding(COMMANDS) as decider:
        await asyncio.gather(*(ask(decider, "StartLot", started(f"lot-{n}"), f"r-{n}") for n in range(20)))
    value, labels = bench.metrics.registry.get_sample_value, {"service": "production"}
    assert value(f"{metrics.DECIDER_GROUP.name}_sum", labels) == 20
    assert value(f"{metrics.DECIDER_GROUP.name}_count", labels) == 1
    assert value(f"{metrics.DECIDER_SECONDS.name}_count", labels) == 1
    assert value(metrics.DECIDER_WAITING.name, labels) == 0


# -- many at once -----------------------------------------------------------


class Trips(CountingStore):
    """Counts what would each be a journey to the database."""

    trips = 0

    async def transact(self, work: Callable[[AsyncTransaction], Any]) -> Any:
        store = self

        class Counted:
            def __init__(self, txn: AsyncTransaction) -> None:
                self._txn = txn

            async def load(self, reads: Iterable[Read]) -> Loaded:
                asked = list(reads)
                store.trips += len({read.kind.name for read in asked})
                return await self._txn.load(asked)

            async def write(self, plan: Plan) -> None:
                store.trips += len({write.kind.name for write in plan.writes}) + bool(plan.outbox)
                await self._txn.write(plan)

        return await super().transact(lambda txn: work(Counted(txn)))


async def test_five_hundred_aggregates_are_one_transaction_and_a_handful_of_trips(bench: Bench) -> None:
    store = Trips(bench.database)
    async with bench.deciding(COMMANDS, store) as decider:
        decision = await ask(decider, "StartMany", common.LotKey(lot="many"), "r-1")
        again = await ask(decider, "StartMany", common.LotKey(lot="many"), "r-1")
    assert store.transactions == 2, "one for each request"
    assert store.trips <= 9
    assert again == decision
    assert len(decision.event_ids) == len(set(decision.event_ids)) == 500
    assert bench.versions(LOT) == {f"many/{n}": 1 for n in range(500)}
    assert len(bench.read(LOT_TOPIC)) == 500
