"""Reactors and projectors: one effect for each event, however it is delivered."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.bus.memory import MemoryConsumer
from services.kit.bus.protocol import Record
from services.kit.envelope import Event
from services.kit.errors import Integrity, Poison, Retryable
from services.kit.metrics import RUNNER_RETRIES
from services.kit.runners.notes import Fenced
from services.kit.runners.reactor import Events
from services.kit.store.kinds import Plan
from services.kit.store.memory import MemoryTransaction
from services.kit.work import STEPS, Work
from tests.unit.kit.support import (
    INSIGHT_TOPIC,
    LOT,
    LOT_TOPIC,
    NOON,
    NOTE,
    Bench,
    Crash,
    Lot,
    Note,
    headers,
    ids,
    lot_event,
    note_lot,
)

EVENTS: Events = {production.LotStarted: note_lot}
A, B, C = "m/item/G/a", "m/item/G/b", "m/item/G/c"


@pytest.fixture
def bench() -> Bench:
    return Bench()


def texts(bench: Bench) -> dict[str, str]:
    return {id: note.text for id, note in bench.states(NOTE).items()}


# -- an event and its effect ------------------------------------------------


def test_an_event_changes_states_and_emits_in_one_go(bench: Bench) -> None:
    bench.send(lot_event(A, 1, case="case-1", run="run-1", trace="00-aa-bb-01", actor="person:ann"))
    turner = bench.turner(EVENTS)
    assert turner.turn() == 1
    assert texts(bench) == {A: f"{A}-1"}
    assert bench.states(LOT) == {A: Lot(("InsightRecorded",))}
    (row,) = bench.database.outbox.values()
    told = headers(row)
    assert (row.topic, row.key, row.seq) == (INSIGHT_TOPIC, A.encode(), 1)
    assert row.id == told["ce_id"] == str(uuid.UUID(row.id))
    assert told["ce_source"] == "/svc/rnd/lot"
    assert told["ce_subject"] == A
    assert told["ce_time"] == NOON.isoformat(), (
        "domain time is the cause's, for a second delivery decides alike"
    )
    assert told["pl_cause"] == f"{A}-1"
    assert (told["pl_case"], told["pl_run"], told["pl_seq"]) == ("case-1", "run-1", "1")
    assert told["pl_actor"] == "service:rnd"
    assert told["traceparent"] == "00-aa-bb-01"
    assert bench.marks() == 1
    assert bench.wakes, "the relay was not woken"
    assert turner.runner.status.records == 1


def test_what_nobody_handles_is_passed_over(bench: Bench) -> None:
    bench.send(lot_event(A, 1, production.LotCompleted(lot=A)), lot_event(A, 2))
    bench.turner(EVENTS).turn()
    assert texts(bench) == {A: f"{A}-2"}
    assert bench.marks() == 2


def test_several_effects_of_one_event_have_ids_and_versions_of_their_own(bench: Bench) -> None:
    def twice(work: Work, event: Event) -> None:
        for _ in range(2):
            work.apply(LOT, A, rnd.InsightRecorded(insight=A))
        work.apply(LOT, B, rnd.InsightRecorded(insight=B))

    bench.send(lot_event(A, 1))
    bench.turner({production.LotStarted: twice}).turn()
    rows = list(bench.database.outbox.values())
    assert len(rows) == 3
    assert [(row.aggregate, row.seq) for row in rows] == [(f"lot/{A}", 1), (f"lot/{A}", 2), (f"lot/{B}", 1)]
    assert bench.versions(LOT) == {A: 2, B: 1}


def test_case_and_run_of_an_effect_may_be_named(bench: Bench) -> None:
    def named(work: Work, event: Event) -> None:
        work.apply(LOT, A, rnd.InsightRecorded(insight=A), case="stored-case", run="stored-run")

    bench.send(lot_event(A, 1, case="c", run="r"))
    bench.turner({production.LotStarted: named}).turn()
    (row,) = bench.database.outbox.values()
    assert (headers(row)["pl_case"], headers(row)["pl_run"]) == ("stored-case", "stored-run")


def test_a_fact_goes_out_once_under_its_own_id(bench: Bench) -> None:
    # Two records of one batch that know the same dispense, and a third in another batch.
    def dispensed(work: Work, event: Event) -> None:
        work.emit_fact(traceability.DispenseRecorded(dispense="d-1", lot=A, site="s"), "d-1", subject="d-1")

    turner = bench.turner({production.LotStarted: dispensed})
    bench.send(lot_event(A, 1), lot_event(B, 1))
    turner.turn()
    bench.send(lot_event(C, 1))
    turner.turn()
    (row,) = bench.database.outbox.values()
    assert (row.id, row.topic, row.key) == ("d-1", "pharmaloop.traceability.dispense.v1", A.encode())
    assert "pl_seq" not in headers(row), "a fact has no version"
    assert headers(row)["ce_source"] == "/svc/rnd/fact"


def test_a_copy_is_the_event_itself_under_the_case(bench: Bench) -> None:
    def route(work: Work, event: Event) -> None:
        work.copy(event, "pharmaloop.loops.case.v1", "case-9")

    first = lot_event(A, 7, run="r", cause="c-0", actor="person:ann")
    bench.send(first)
    bench.turner({production.LotStarted: route}).turn()
    (row,) = bench.database.outbox.values()
    told = headers(row)
    assert (row.topic, row.key, row.seq) == ("pharmaloop.loops.case.v1", b"case-9", 7)
    assert told["pl_case"] == "case-9"
    kept = {"ce_id": first.id, "ce_source": first.source, "ce_subject": A, "pl_seq": "7", "pl_cause": "c-0"}
    assert {name: told[name] for name in kept} == kept
    assert row.id != first.id, "the copy has its own place in the outbox"


def test_a_step_becomes_due_with_the_states(bench: Bench) -> None:
    def later(work: Work, event: Event) -> None:
        work.due_in("remind", A, timedelta(hours=8), lot=A)

    bench.send(lot_event(A, 1))
    bench.turner({production.LotStarted: later}).turn()
    (step,) = bench.states(STEPS).values()
    assert (step.step, step.key, step.payload) == ("remind", A, {"lot": A})
    assert step.due == "2026-03-01T20:00:00.000000+00:00"


# -- deliveries -------------------------------------------------------------


def test_what_is_not_newer_is_dropped(bench: Bench) -> None:
    turner = bench.turner(EVENTS)
    bench.send(lot_event(A, 2), lot_event(A, 1), lot_event(A, 2), lot_event(A, 4))
    turner.turn()
    bench.send(lot_event(A, 4), lot_event(A, 3))
    turner.turn()
    assert texts(bench) == {A: f"{A}-2 {A}-4"}
    assert bench.marks() == 6


def test_versions_count_for_each_source_and_subject(bench: Bench) -> None:
    bench.send(
        lot_event(A, 1, id="one"),
        lot_event(A, 1, id="two", source="/svc/production/capa"),
        lot_event(A, 1, id="three", subject="other"),
    )
    bench.turner(EVENTS).turn()
    assert texts(bench) == {A: "one two three"}


def test_facts_are_handed_on_each_time(bench: Bench) -> None:
    # They have no version: the handler knows them by their own id.
    bench.send(lot_event(A, None, id="fact"), lot_event(A, None, id="fact"))
    bench.turner(EVENTS).turn()
    assert texts(bench) == {A: "fact fact"}


def test_a_crash_after_the_commit_changes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.send(lot_event(A, 1), lot_event(B, 1))
    turner = bench.turner(EVENTS)

    def crash(self: MemoryConsumer, positions: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(MemoryConsumer, "commit", crash)
        with pytest.raises(Crash):
            turner.turn()
    before = bench.snapshot()
    again = bench.turner(EVENTS)
    assert again.turn() == 0, "it starts at the watermark, and not where Kafka believes it to be"
    bench.send(lot_event(A, 2))
    assert again.turn() == 1
    assert texts(bench)[A] == f"{A}-1 {A}-2"
    assert before != bench.snapshot()


def test_a_crash_before_the_commit_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.send(lot_event(A, 1))
    empty = bench.snapshot()

    def crash(self: object) -> None:
        raise Crash

    broken = bench.turner(EVENTS)
    with monkeypatch.context() as patch:
        patch.setattr("services.kit.store.memory.MemoryTransaction.commit", crash)
        with pytest.raises(Crash):
            broken.turn()
    assert bench.snapshot() == empty
    bench.turner(EVENTS).turn()
    assert texts(bench) == {A: f"{A}-1"}
    assert len(bench.database.outbox) == 1


DELIVERY = st.tuples(st.sampled_from([A, B, C]), st.integers(1, 4), st.booleans())


@settings(max_examples=60, deadline=None)
@given(st.lists(DELIVERY, max_size=25))
def test_batches_and_repeats_make_no_difference(deliveries: list[tuple[str, int, bool]]) -> None:
    """In any cut into batches, with any repeats: what one record at a time would give."""
    whole, single = Bench(), Bench()
    turner, one_by_one = whole.turner(EVENTS), single.turner(EVENTS)
    for lot, seq, cut in deliveries:
        whole.send(lot_event(lot, seq))
        if cut:
            turner.turn()
        single.send(lot_event(lot, seq))
        one_by_one.turn()
    turner.turn()
    assert whole.states(NOTE) == single.states(NOTE)
    assert whole.versions(LOT) == single.versions(LOT)
    assert sorted(whole.database.outbox) == sorted(single.database.outbox)
    assert whole.marks() == len(deliveries)


def test_a_second_instance_is_fenced_and_goes_on_from_the_watermark(bench: Bench) -> None:
    bench.send(lot_event(A, 1), lot_event(B, 1))
    paused, other = bench.turner(EVENTS), bench.turner(EVENTS)
    other.turn()  # while `paused` sleeps, somebody else does its work
    done = bench.snapshot()
    bench.send(lot_event(A, 2))
    assert paused.turn() == 3, "it takes what the other has done, and one more"
    assert bench.snapshot() == done, "the revived process wrote over the other's work"
    assert paused.turn() == 1, "it goes on from the watermark: nothing twice, nothing left out"
    assert texts(bench)[A] == f"{A}-1 {A}-2"
    assert bench.marks() == 3


def test_a_fenced_batch_says_so(bench: Bench) -> None:
    bench.send(lot_event(A, 1))
    paused, other = bench.turner(EVENTS), bench.turner(EVENTS)
    records = paused.consumer.take(9, 0)
    other.turn()
    with pytest.raises(Fenced):
        paused.runner.process(records)


def test_a_transient_fault_is_tried_again_in_place(bench: Bench) -> None:
    calls = []

    def shaky(work: Work, event: Event) -> None:
        calls.append(event.id)
        if len(calls) < 4:  # each record is tried out once before its turn
            raise Retryable("the other side is busy")
        note_lot(work, event)

    bench.send(lot_event(A, 1), lot_event(A, 2))
    turner = bench.turner({production.LotStarted: shaky})
    turner.turn()
    assert texts(bench) == {A: f"{A}-1 {A}-2"}
    retries = bench.metrics.registry.get_sample_value(
        RUNNER_RETRIES.name, {"service": "rnd", "runner": "rnd.test"}
    )
    assert retries
    assert turner.runner.status.dead_letters == 0


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that gives a transaction the time for seven notes, and no more."""
    write = MemoryTransaction.write

    def limited(txn: MemoryTransaction, plan: Plan) -> None:
        if sum(one.kind.name == NOTE.name for one in plan.writes) > 7:
            raise Retryable("the transaction took too long")
        write(txn, plan)

    monkeypatch.setattr(MemoryTransaction, "write", limited)
    monkeypatch.setattr("services.kit.runners.batch._pause", lambda consumer, attempt: None)


LOTS = [f"m/item/G/{n}" for n in range(40)]


@pytest.mark.usefixtures("hasty")
def test_a_batch_that_takes_too_long_is_done_in_pieces(bench: Bench) -> None:
    bench.send(*(lot_event(lot, 1) for lot in LOTS))
    turner = bench.turner(EVENTS)
    turner.turn()
    assert texts(bench) == {lot: f"{lot}-1" for lot in LOTS}
    assert (bench.marks(), turner.runner.status.records) == (40, 40)
    assert turner.turn() == 0


def test_a_slow_batch_is_followed_by_smaller_ones_until_each_takes_its_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction near its limit would be undone, and what it did with it."""
    write, clock = MemoryTransaction.write, [0.0]
    sizes: list[int] = []

    def slow(txn: MemoryTransaction, plan: Plan) -> None:
        notes = sum(one.kind.name == NOTE.name for one in plan.writes)
        clock[0] += notes * seconds_each
        if notes:
            sizes.append(notes)
        write(txn, plan)

    monkeypatch.setattr(MemoryTransaction, "write", slow)
    monkeypatch.setattr("services.kit.runners.batch.time.monotonic", lambda: clock[0])
    seconds_each = 0.25
    turner = bench.turner(EVENTS)
    lots = [f"m/item/H/{n}" for n in range(300)]
    for start in range(0, 200, 40):
        bench.send(*(lot_event(lot, 1) for lot in lots[start : start + 40]))
        turner.turn()
    assert sizes[0] == 40
    assert max(sizes[1:]) == 4, "a second each"
    seconds_each = 0.001
    sizes.clear()
    bench.send(*(lot_event(lot, 1) for lot in lots[200:]))
    turner.turn()
    assert sizes == [4, 8, 16, 32, 40]
    assert len(texts(bench)) == 300


def test_large_records_go_few_by_few(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of three hundred patients costs more than one of one; a single one is never too large."""
    write = MemoryTransaction.write
    sizes: list[int] = []

    def counted(txn: MemoryTransaction, plan: Plan) -> None:
        if notes := sum(one.kind.name == NOTE.name for one in plan.writes):
            sizes.append(notes)
        write(txn, plan)

    monkeypatch.setattr(MemoryTransaction, "write", counted)
    long = "x" * 60_000
    bench.send(*(lot_event(lot, 1, production.LotStarted(lot=lot, product=long)) for lot in LOTS[:5]))
    bench.send(lot_event(LOTS[5], 1, production.LotStarted(lot=LOTS[5], product=long * 5)))
    bench.send(lot_event(LOTS[6], 1))
    turner = bench.turner(EVENTS)
    while turner.turn():
        pass
    assert max(sizes) == 2
    assert sum(sizes) == len(texts(bench)) == 7


@pytest.mark.usefixtures("hasty")
def test_an_instance_that_is_fenced_between_two_pieces_goes_on_from_the_watermark(bench: Bench) -> None:
    bench.send(*(lot_event(lot, 1) for lot in LOTS))
    turner, other = bench.turner(EVENTS), bench.turner(EVENTS)
    first = turner.runner.process

    def process(records: list[Record]) -> None:
        first(records)
        turner.runner.process = first  # type: ignore[method-assign]
        while other.turn():
            pass

    turner.runner.process = process  # type: ignore[method-assign]
    while turner.turn() + other.turn():
        pass
    assert texts(bench) == {lot: f"{lot}-1" for lot in LOTS}
    assert bench.marks() == 40
    assert len(bench.database.outbox) == 40, "nothing twice"


def test_a_database_that_goes_away_after_the_commit_has_no_record_folded_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def note(work: Work, event: Event) -> None:
        if event.subject == A:
            raise Poison("ODD", "this lot is odd")
        note_lot(work, event)

    bench.send(lot_event(A, 1), lot_event(B, 1))
    turner = bench.turner({production.LotStarted: note})

    def away() -> None:
        raise Retryable("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(turner.runner, "_recount", away)
        turner.turn()
    assert turner.runner.status.records == 2, "the batch is done once"
    assert bench.marks() == 2


# -- reading ----------------------------------------------------------------


def test_a_handler_may_follow_what_it_reads(bench: Bench) -> None:
    def follow(work: Work, event: Event) -> None:
        lot: str | None = cast(production.LotStarted, event.message).lot
        path = []
        while lot:
            note = work.get(NOTE, lot)
            path.append(lot)
            lot = note.next if note else None
        work.put(NOTE, f"path of {event.id}", Note(">".join(path)))

    def lay(work: Work, event: Event) -> None:
        for n in range(30):
            work.put(NOTE, f"n{n}", Note("", next=f"n{n + 1}"))

    bench.send(lot_event("x", 1))
    bench.turner({production.LotStarted: lay}, name="lay").turn()
    bench.send(
        lot_event("n0", 1, id="first"), lot_event("n28", 1, id="second"), lot_event("none", 1, id="third")
    )
    bench.turner({production.LotStarted: follow}, name="follow").turn()
    found = texts(bench)
    assert found["path of first"] == ">".join(f"n{n}" for n in range(31))
    assert found["path of second"] == "n28>n29>n30"
    assert found["path of third"] == "none"


def test_a_search_sees_what_the_same_batch_changed(bench: Bench) -> None:
    def search(work: Work, event: Event) -> None:
        lot = cast(production.LotStarted, event.message).lot
        if lot == B:
            work.drop(NOTE, "there before")
        found = work.where(NOTE, "about", "x")
        work.put(NOTE, lot, Note(",".join(found), ("x",) if lot != A else ("y",)))
        if lot == C:
            work.put(NOTE, "at the end", Note(",".join(work.where(NOTE, "about", "x"))))

    bench.database.docs["note"]["there before"] = NOTE.to_doc("there before", 1, Note("", ("w", "x")))
    bench.send(*(lot_event(lot, 1, key="one key, so in order") for lot in (A, B, C)))
    bench.turner({production.LotStarted: search}).turn()
    found = texts(bench)
    assert found[A] == "there before"
    assert found[B] == ""
    assert found[C] == B
    assert found["at the end"] == f"{B},{C}"


def test_a_handler_that_never_has_enough_is_stopped(bench: Bench) -> None:
    def greedy(work: Work, event: Event) -> None:
        work.get(NOTE, str(uuid.uuid4()))

    bench.send(lot_event(A, 1), lot_event(A, 2))
    turner = bench.turner({production.LotStarted: greedy})
    with pytest.raises(Integrity, match="never had enough"):
        turner.turn()


def test_many_states_are_written_without_asking_for_each(bench: Bench) -> None:
    # Plans are opened by the hundred: one round trip for each would take seconds, and be too many.
    loads: list[int] = []

    def many(work: Work, event: Event) -> None:
        loads.append(1)
        for n in range(1000):
            work.put(NOTE, f"{event.subject}-{n}", Note(event.id))
            work.drop(NOTE, f"old-{n}")

    for n in range(1000):
        bench.database.docs["note"][f"old-{n}"] = NOTE.to_doc(f"old-{n}", 3, Note("old"))
        bench.database.docs["note"][f"{A}-{n}"] = NOTE.to_doc(f"{A}-{n}", 7, Note("before"))
    bench.send(lot_event(A, 1), lot_event(B, 1))
    bench.turner({production.LotStarted: many}).turn()
    assert len(loads) <= 6
    assert set(texts(bench).values()) == {f"{A}-1", f"{B}-1"}
    assert len(texts(bench)) == 2000
    assert {bench.versions(NOTE)[f"{lot}-5"] for lot in (A, B)} == {8, 1}


def test_an_aggregate_changes_by_its_events_only(bench: Bench) -> None:
    def by_hand(work: Work, event: Event) -> None:
        work.put(LOT, A, Lot())

    bench.send(lot_event(A, 1))
    with pytest.raises(Integrity, match="aggregate"):
        bench.turner({production.LotStarted: by_hand}).turn()


# -- projectors -------------------------------------------------------------


def test_a_projector_that_emits_is_stopped(bench: Bench) -> None:
    bench.send(lot_event(A, 1))
    turner = bench.turner(EVENTS, emits=False)
    with pytest.raises(Integrity, match="projector"):
        turner.turn()
    assert not bench.states(NOTE)
    assert not bench.database.outbox
    assert bench.marks() == 0


def test_a_projector_may_dead_letter(bench: Bench) -> None:
    bench.send_raw(A, b"\xff", ())
    bench.turner(EVENTS, emits=False).turn()
    assert [row.topic for row in bench.database.outbox.values()] == [f"{LOT_TOPIC}.dlq"]


def test_ids_say_the_same_in_every_process(bench: Bench) -> None:
    other = Bench()
    for one in (bench, other):
        one.send(lot_event(A, 1), lot_event(B, 1))
    bench.turner(EVENTS).turn()
    other.turner(EVENTS).turn()
    assert sorted(ids(bench.database.outbox.values())) == sorted(ids(other.database.outbox.values()))


def test_a_thread_of_its_own_turns_it_and_says_how_it_is(bench: Bench) -> None:
    runner = bench.turner(EVENTS).runner
    runner.start()
    bench.send(lot_event(A, 1))
    wait_for(lambda: runner.status.records == 1)
    assert runner.status.state == "running"
    runner.stop()
    runner.join(5)
    assert runner.status.state == "stopped"
    assert texts(bench) == {A: f"{A}-1"}


def test_a_thread_that_must_stop_says_why(bench: Bench) -> None:
    bench.send(lot_event(A, 1))
    runner = bench.turner(EVENTS, emits=False).runner
    runner.start()
    runner.join(5)
    assert (runner.status.state, runner.status.records) == ("failed", 0)
    assert "projector" in runner.status.detail


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.002)
