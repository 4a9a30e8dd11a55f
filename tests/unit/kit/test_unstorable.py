"""A state that the database can never take costs the record at fault, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from pharmaloop.production.v1 import events_pb2 as production
from services.kit.envelope import Event
from services.kit.runners.letters import OPEN
from services.kit.store.kinds import Doc, Kind, Plan
from services.kit.store.memory import MemoryDatabase, MemoryStore, MemoryTransaction
from services.kit.store.protocol import Transaction, Unstorable
from services.kit.work import Work
from tests.unit.kit.plant import RUNNER, A, B, Plant, held
from tests.unit.kit.support import LOT, NOTE, Bench, Note, lot_event

# -- what the database refuses ----------------------------------------------


class Picky(MemoryTransaction):
    """Refuses a note that holds the word `huge`, as a database refuses a document that is too large."""

    def write(self, plan: Plan) -> None:
        for write in plan.writes:
            if write.kind.name == NOTE.name and "huge" in repr(write.state):
                raise Unstorable(f"{write.kind.name} {write.id} is too large")
        super().write(plan)

    def put_docs(self, kind: Kind[Any], new: list[Doc], known: list[Doc]) -> None:
        if any("huge" in repr(doc) for doc in (*new, *known)):
            raise Unstorable("too large")
        super().put_docs(kind, new, known)


class PickyStore(MemoryStore):
    def __init__(self, database: MemoryDatabase) -> None:
        super().__init__(database)
        self.picky = True

    def transact(self, work: Callable[[Transaction], Any]) -> Any:
        txn = Picky(self.database) if self.picky else MemoryTransaction(self.database)
        result = work(txn)
        txn.commit()
        return result


def picky_plant() -> Plant:
    bench = Bench()
    bench.store = PickyStore(bench.database)
    return Plant(bench)


def test_a_state_that_cannot_be_stored_costs_the_record_at_fault_alone() -> None:
    plant = picky_plant()
    plant.hear(held(A, 1), held(A, 2, id="huge"), held(A, 3), held(B, 1), held(B, None, id="f"))
    assert (plant.told(A), plant.told(B)) == (["a1"], ["b1", "f"])
    assert plant.stand() == [("huge", OPEN), ("a3", OPEN)]
    assert [letter.reason for letter in plant.all().values()] == ["UNSTORABLE", "PARKED"]
    assert plant.bench.marks() == 5
    assert plant.bench.versions(LOT) == {A: 1, B: 2}


def test_a_redrive_that_cannot_be_stored_is_put_back_and_the_runner_goes_on() -> None:
    plant = picky_plant()
    plant.deploy("huge")
    plant.hear(held(A, 1, id="huge"), held(A, 2))
    plant.deploy()
    plant.redrive(runner=RUNNER)
    assert plant.stand() == [("huge", OPEN), ("a2", OPEN)]
    letter = plant.all()[plant.id("huge")]
    assert (letter.reason, letter.attempts) == ("UNSTORABLE", 2)
    plant.hear(held(B, 1))
    assert plant.told(B) == ["b1"]
    cast(PickyStore, plant.bench.store).picky = False
    plant.redrive(runner=RUNNER)
    assert plant.told(A) == ["huge", "a2"]


def test_an_event_that_waited_and_cannot_be_stored_is_dead_lettered() -> None:
    plant = picky_plant()

    def refer(work: Work, event: Event) -> None:
        work.require(NOTE, "late")
        plant.handle(work, event)

    def arrive(work: Work, event: Event) -> None:
        work.put(NOTE, "late", Note("there"))

    runner = plant.bench.turner({production.LotHeld: refer, production.LotStarted: arrive})
    plant.bench.send(held(A, 1, id="huge"), held(A, 2), held(B, 1))
    runner.settle()
    plant.bench.send(lot_event("x", 1))
    runner.settle()
    assert (plant.told(A), plant.told(B)) == ([], ["b1"])
    assert [letter.reason for letter in plant.all().values()] == ["UNSTORABLE", "PARKED"]
    assert runner.runner.status.waiting == 0
