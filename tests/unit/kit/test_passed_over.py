"""What concerns a runner not at all costs no transaction, and its watermarks still tell the truth."""

from __future__ import annotations

import pytest

from pharmaloop.production.v1 import events_pb2 as production
from services.kit.envelope import Event
from services.kit.errors import Retryable
from services.kit.runners import batch
from services.kit.runners.letters import LETTERS
from services.kit.runners.notes import MARKS
from services.kit.runners.reactor import Events, Reactor
from services.kit.store.kinds import Plan
from services.kit.store.memory import MemoryStore, MemoryTransaction
from tests.unit.kit.support import NOTE, Bench, lot_event, note_lot

EVENTS: Events = {production.LotStarted: note_lot}
A, B = "m/item/G/a", "m/item/G/b"


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def writes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every transaction that writes watermarks."""
    begun: list[int] = []
    write = MemoryTransaction.write

    def counted(txn: MemoryTransaction, plan: Plan) -> None:
        if any(one.kind.name == MARKS.name for one in plan.writes):
            begun.append(1)
        write(txn, plan)

    monkeypatch.setattr(MemoryTransaction, "write", counted)
    return begun


def foreign(lot: str, seq: int) -> Event:
    return lot_event(lot, seq, production.LotCompleted(lot=lot))


def texts(bench: Bench) -> dict[str, str]:
    return {id: note.text for id, note in bench.states(NOTE).items()}


def test_they_cost_one_transaction_together_when_nothing_else_is_to_be_done(
    bench: Bench, writes: list[int]
) -> None:
    turner = bench.turner(EVENTS)
    writes.clear()
    for seq in range(1, 6):
        bench.send(foreign(A, seq))
        assert turner.turn() == 1
    assert (len(writes), bench.marks()) == (0, 0)
    turner.rest()
    assert (len(writes), bench.marks()) == (1, 5)
    turner.rest()
    assert len(writes) == 1, "what is marked is not marked again"
    assert turner.runner.status.records == 5


def test_the_next_batch_marks_them_with_its_own(bench: Bench, writes: list[int]) -> None:
    turner = bench.turner(EVENTS)
    bench.send(foreign(A, 1), foreign(B, 1))
    turner.turn()
    writes.clear()
    bench.send(lot_event(A, 2))
    turner.turn()
    assert (len(writes), bench.marks()) == (1, 3)
    assert texts(bench) == {A: f"{A}-2"}


def test_readers_of_the_watermarks_do_not_wait_until_nothing_comes_any_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_UNMARKED_SECONDS", 0.0)
    turner = bench.turner(EVENTS)
    for seq in (1, 2):
        bench.send(foreign(A, seq))
        assert turner.turn() == 1
    assert bench.marks() == 2


def test_a_runner_that_was_asleep_goes_on_where_another_has_brought_the_watermark(bench: Bench) -> None:
    asleep, other = bench.turner(EVENTS), bench.turner(EVENTS)
    bench.send(foreign(A, 1))
    asleep.turn()
    other.turn()
    other.rest()
    asleep.rest()  # its mark is refused, and it takes the other's
    bench.send(lot_event(A, 2))
    assert asleep.turn() == 1
    assert (bench.marks(), texts(bench)) == (2, {A: f"{A}-2"})


def test_a_batch_is_refused_for_a_partition_that_was_only_passed_over(bench: Bench) -> None:
    """Another instance has it by now, and its records may be this batch's neighbours."""
    asleep, other = bench.turner(EVENTS), bench.turner(EVENTS)
    places = bench.send(foreign(A, 1), *(foreign(f"m/item/G/{n}", 1) for n in range(20)))
    assert len({place.partition for place in places}) == 2
    asleep.turn()
    other.turn()
    other.rest()
    done = bench.marks()
    bench.send(lot_event(A, 2))
    asleep.turn()
    assert (texts(bench), bench.marks()) == ({}, done), "it was not where the watermarks stand"
    asleep.turn()
    assert (texts(bench), bench.marks()) == ({A: f"{A}-2"}, done + 1)


def test_a_runner_that_stops_marks_them(bench: Bench) -> None:
    bench.send(foreign(A, 1), foreign(B, 1))
    runner = bench.turner(EVENTS).runner
    runner.start()
    runner.stop()
    runner.join(5)
    assert runner.status.state == "stopped"
    assert bench.marks() == runner.status.records


def test_what_cannot_be_read_is_never_passed_over(bench: Bench) -> None:
    bench.send(foreign(A, 1))
    bench.send_raw(A, b"\xff", (("ce_type", b"\xff"),))
    bench.send_raw(A, b"\xff", ())
    bench.turner(EVENTS).turn()
    assert [letter.reason for letter in bench.states(LETTERS).values()] == ["BAD_HEADER", "NO_HEADER"]


def test_a_making_that_does_not_learn_how_far_the_live_one_is_takes_the_same_records_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    reactor = Reactor("test", EVENTS, views=(NOTE,))
    bench.send(lot_event(A, 1), lot_event(B, 1))
    bench.making(reactor).turn()
    made = bench.making(reactor, 2, follows=1)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with monkeypatch.context() as away:
        away.setattr(MemoryStore, "transact", lambda *_: (_ for _ in ()).throw(Retryable("away")))
        assert made.turn() == 0
    assert made.turn() == 2
    assert set(bench.states(NOTE.pinned(2))) == {A, B}


def test_watermarks_that_cannot_be_written_now_are_written_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    turner = bench.turner(EVENTS)
    bench.send(foreign(A, 1))
    turner.turn()
    with monkeypatch.context() as away:
        away.setattr(MemoryStore, "transact", lambda *_: (_ for _ in ()).throw(Retryable("away")))
        turner.rest()
    assert bench.marks() == 0
    turner.rest()
    assert bench.marks() == 1
