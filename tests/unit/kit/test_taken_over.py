"""Partitions that change hands, also while a hand is frozen or the database is away: nothing is overtaken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pharmaloop.production.v1 import events_pb2 as production
from services.kit.bus.memory import MemoryBus, MemoryConsumer
from services.kit.bus.protocol import Partition, Record
from services.kit.envelope import Event, to_record
from services.kit.errors import Retryable
from services.kit.runners import batch
from services.kit.runners.letters import DONE, LETTERS
from services.kit.runners.notes import WAITING, Fenced
from services.kit.store.kinds import Plan, Write
from services.kit.store.memory import MemoryStore
from services.kit.store.protocol import Transaction
from services.kit.work import Work
from tests.unit.kit.plant import A, B, Plant, held
from tests.unit.kit.support import LOT_TOPIC, NOTE, Bench, Note, Turner
from tests.unit.rough_stores import Unsteady

REFERENT = "referent"


def refer(work: Work, event: Event) -> None:
    """An event that others have to know something before."""
    work.require(NOTE, REFERENT)
    before = work.get(NOTE, event.subject)
    work.put(NOTE, event.subject, Note(f"{before.text} {event.id}" if before else event.id))


EVENTS = {production.LotHeld: refer}


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def plant() -> Plant:
    return Plant()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_pause_seconds", lambda attempt: 0.0)


def arrives(bench: Bench) -> None:
    bench.store.transact(lambda txn: txn.write(Plan((Write(NOTE, REFERENT, 0, 1, Note("here")),), ())))


def told(bench: Bench, lot: str = A) -> list[str]:
    note = bench.states(NOTE).get(lot)
    return note.text.split() if note else []


def partition_of(lot: str) -> Partition:
    return Partition(*MemoryBus(2).append(to_record(held(lot, 1), LOT_TOPIC))[:2])


# -- what the former owner wrote last ----------------------------------------


def test_what_the_former_owner_let_wait_at_the_last_moment_is_not_overtaken(bench: Bench) -> None:
    new, old = bench.turner(EVENTS), bench.turner(EVENTS)
    bench.send(held(A, 1))
    old.turn()  # its last transaction was on its way when the partitions went
    assert len(bench.states(WAITING)) == 1
    arrives(bench)
    bench.send(held(A, 2))
    new.settle()
    assert told(bench) == ["a1", "a2"]
    assert bench.states(WAITING) == {}


def test_a_key_that_the_former_owner_parked_at_the_last_moment_is_not_overtaken(plant: Plant) -> None:
    new, old = plant.bench.making(plant.reactor), plant.runner
    plant.bugs = {"a1"}
    plant.bench.send(held(A, 1))
    old.turn()
    plant.bugs = set()
    plant.bench.send(held(A, 2))
    new.settle()
    plant.runner = new
    assert plant.told() == []
    plant.redrive("a1")
    assert plant.told() == ["a1", "a2"]
    assert {state for _, state in plant.stand()} == {DONE}


def test_what_waits_in_a_partition_of_another_instance_is_left_to_it(bench: Bench) -> None:
    one = bench.turner(EVENTS)
    bench.send(held(A, 1))
    one.settle()
    arrives(bench)
    one.runner._lost(one.runner.positions())
    assert one.runner.look_aside() == 0
    assert len(bench.states(WAITING)) == 1
    assert bench.turner(EVENTS).settle() == 1
    assert told(bench) == ["a1"]


def test_a_revived_process_takes_up_nothing_of_partitions_that_somebody_else_goes_on_with(
    bench: Bench,
) -> None:
    old, new = bench.turner(EVENTS), bench.turner(EVENTS)
    bench.send(held(A, 1))
    old.turn()
    new.settle()
    bench.send(held(A, 2))
    new.turn()
    arrives(bench)
    with pytest.raises(Fenced):
        old.runner.look_aside()
    assert told(bench) == []
    new.settle()
    assert told(bench) == ["a1", "a2"]


# -- the database is away at such a moment ------------------------------------


def test_a_start_waits_until_the_database_says_where_to_begin(bench: Bench) -> None:
    arrives(bench)
    bench.turner(EVENTS).settle()
    bench.send(held(A, 1), held(A, 2))
    bench.turner(EVENTS).settle()
    bench.send(held(A, 3))
    bench.store = store = Unsteady(bench.database)
    store.away = 7
    late = bench.turner(EVENTS)
    assert store.away == 0
    assert late.runner.status.state == "retrying"
    assert late.settle() == 1
    assert late.runner.status.state == "running"
    assert told(bench) == ["a1", "a2", "a3"]


def test_while_it_is_not_known_what_is_set_aside_nothing_overtakes_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else lets an event wait, and the question what waits fails."""
    one, other = bench.turner(EVENTS), bench.turner(EVENTS)
    bench.send(held(A, 1))
    other.turn()
    one.consumer.rewind(other.runner.positions())
    one.runner._stand_at(other.runner.positions())

    def away() -> int:
        raise Retryable("no primary")

    with monkeypatch.context() as gone:
        gone.setattr(one.runner._aside, "waiting", away)
        with pytest.raises(Retryable):
            one.runner._recount()
    arrives(bench)
    bench.send(held(A, 2))
    one.settle()
    assert told(bench) == ["a1", "a2"]


def test_a_fact_is_folded_once_when_the_database_goes_in_the_middle_of_a_batch_done_one_by_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep(work: Work, event: Event) -> None:
        before = work.get(NOTE, event.subject)
        text = "x" * 17_000_000 if event.id == "huge" else event.id
        work.put(NOTE, event.subject, Note(f"{before.text} {text}" if before else text))

    class Once(MemoryStore):
        """Away once, when the second record is written alone."""

        left = 1

        def transact(self, work: Callable[[Transaction], Any]) -> Any:
            result = super().transact(work)
            if told(bench) == ["f1"] and self.left:
                self.left -= 1
                one.runner._around.store.away = 1  # type: ignore[attr-defined]
            return result

    bench.store = store = type("Store", (Once, Unsteady), {})(bench.database)
    monkeypatch.setattr(batch, "_pause", lambda consumer, attempt: None)
    one = bench.turner({production.LotHeld: keep})
    bench.send(held(A, None, id="f1"), held(A, None, id="f2"), held(B, None, id="huge"))
    one.settle()
    assert store.left == 0, "it was away"
    assert told(bench) == ["f1", "f2"]
    assert [letter.reason for letter in bench.states(LETTERS).values()] == ["UNSTORABLE"]


def test_records_that_come_again_after_they_are_done_are_left_out(bench: Bench) -> None:
    """A partition went and came back while its records were held: its client begins at the watermark."""
    arrives(bench)
    one = bench.turner(EVENTS)
    (place,) = (
        Partition(*place[:2]) for place in bench.send(held(A, None, id="f1"), held(A, None, id="f2"))[:1]
    )
    one.turn()
    one.consumer.rewind({place: 0})
    bench.send(held(A, None, id="f3"))
    one.turn()
    assert told(bench) == ["f1", "f2", "f3"]


# -- partitions that go while records are taken --------------------------------


def test_records_of_a_partition_that_went_while_they_were_taken_are_left_to_its_new_owner(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrives(bench)
    one = bench.turner(EVENTS)
    (gone,) = (Partition(*place[:2]) for place in bench.send(held(A, 1)))
    stays = next(lot for n in range(9) if partition_of(lot := f"m/item/G/{n}") != gone)
    bench.send(held(stays, 1))
    take = MemoryConsumer.take

    def losing(consumer: MemoryConsumer, limit: int, timeout: float) -> list[Record]:
        records = take(consumer, limit, timeout)
        one.runner._lost([gone])
        return records

    monkeypatch.setattr(MemoryConsumer, "take", losing)
    one.turn()
    assert (told(bench, A), len(told(bench, stays))) == ([], 1)
    assert gone not in one.runner.positions()
    monkeypatch.undo()
    Turner(bench, one.runner.reactor).settle()
    assert (told(bench, A), len(told(bench, stays))) == (["a1"], 1)
