"""What operators do with dead letters: processed again in order, given up for good, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharmaloop.common.v1 import operations_pb2 as api
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit.envelope import Event
from services.kit.errors import Integrity, Invalid, Rejected, Retryable, Unknown
from services.kit.operations import Choice, DeadLetters
from services.kit.rpc.operations import OperationsServicer
from services.kit.runners.letters import DISCARDED, DONE, LETTERS, OPEN, REDRIVE, Letter
from services.kit.runners.notes import MARKS, PARKED, REBUILDS, Rebuild
from services.kit.runners.reactor import Reactor
from services.kit.store.kinds import Doc, Kind, Plan
from services.kit.store.memory import MemoryDatabase, MemoryStore, MemoryTransaction
from services.kit.store.protocol import Transaction, Unstorable
from services.kit.work import Work
from tests.unit.kit.support import LOT, NOTE, Bench, Note, Turner, lot_event

A, B = "m/item/G/a", "m/item/G/b"
RUNNER = "rnd.test"
WHO = "person:li"


@dataclass
class Plant:
    """A service with a bug that can be mended, and an operator."""

    bench: Bench = field(default_factory=Bench)
    #: Ids of events that the deployed code cannot process.
    bugs: set[str] = field(default_factory=set)
    tried: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reactor = Reactor("test", {production.LotHeld: self.handle}, views=(NOTE,))
        self.letters = DeadLetters(self.bench.waiting, {RUNNER})
        self.restart()

    def handle(self, work: Work, event: Event) -> None:
        before = work.get(NOTE, event.subject)
        work.put(NOTE, event.subject, Note(f"{before.text} {event.id}" if before else event.id))
        work.apply(LOT, event.subject, rnd.InsightRecorded(insight=event.id))
        self.tried.append(event.id)
        if event.id in self.bugs:
            raise KeyError(event.id)

    def restart(self) -> None:
        self.runner: Turner = self.bench.making(self.reactor)

    def deploy(self, *bugs: str) -> None:
        """Another version of the code, with these bugs."""
        self.bugs = set(bugs)
        self.restart()

    def hear(self, *events: Event) -> None:
        self.bench.send(*events)
        self.runner.settle()

    def told(self, lot: str = A, kind: Kind[Note] = NOTE) -> list[str]:
        note = self.bench.states(kind).get(lot)
        return note.text.split() if note else []

    def all(self) -> dict[str, Letter]:
        return dict(sorted(self.bench.states(LETTERS).items()))

    def stand(self) -> list[tuple[str, str]]:
        """(event, state) of every letter."""
        names = [dict(letter.record.headers)["ce_id"].decode() for letter in self.all().values()]
        return list(zip(names, [letter.state for letter in self.all().values()], strict=True))

    def id(self, event: str) -> str:
        found = {dict(one.record.headers)["ce_id"].decode(): id for id, one in self.all().items()}
        return found[event]

    def redrive(self, *events: str, **narrow: str) -> int:
        ids = tuple(self.id(event) for event in events)
        count = asyncio.run(self.letters.redrive(Choice(ids, **narrow), WHO))
        self.runner.settle()
        return count

    def discard(self, *events: str, why: str = "a test lot") -> int:
        ids = tuple(self.id(event) for event in events)
        count = asyncio.run(self.letters.discard(Choice(ids), WHO, why))
        self.runner.settle()
        return count

    def snapshot(self) -> str:
        """Everything stored, but letters and watermarks' versions."""
        database = self.bench.database.docs
        names = sorted(name for name, docs in database.items() if docs)
        kept = {name: database[name] for name in names if name not in (LETTERS.name, MARKS.name)}
        return repr((kept, sorted(self.bench.database.outbox), self.bench.marks()))


def held(lot: str, seq: int | None, **fields: Any) -> Event:
    known = {"id": f"{lot.rpartition('/')[2]}{seq}", **fields}
    return lot_event(lot, seq, production.LotHeld(lot=lot), **known)


@pytest.fixture
def plant() -> Plant:
    return Plant()


# -- redrive ----------------------------------------------------------------


def test_a_mended_key_is_processed_in_its_order_once(plant: Plant) -> None:
    plant.deploy("a2")
    plant.hear(held(A, 1), held(A, 2), held(A, 3), held(B, 1), held(A, 4))
    assert plant.stand() == [("a2", OPEN), ("a3", OPEN), ("a4", OPEN)]
    plant.deploy()
    assert plant.redrive(runner=RUNNER) == 3
    assert plant.told() == ["a1", "a2", "a3", "a4"]
    assert plant.bench.versions(LOT) == {A: 4, B: 1}
    assert {state for _, state in plant.stand()} == {DONE}
    assert plant.bench.states(PARKED) == {}
    assert plant.runner.runner.status.parked == 0
    plant.hear(held(A, 5))
    assert plant.told()[-1] == "a5"
    assert plant.redrive(runner=RUNNER) == 0, "what is done is not done again"
    assert {letter.judged_by for letter in plant.all().values()} == {WHO}


def test_what_only_stood_behind_goes_on_with_the_letter(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1), held(A, 2), held(A, 3))
    plant.deploy()
    assert plant.redrive("a1") == 1
    assert plant.told() == ["a1", "a2", "a3"]
    assert plant.bench.states(PARKED) == {}


def test_a_letter_behind_that_failed_itself_is_left_for_a_decision(plant: Plant) -> None:
    plant.deploy("a1", "a2")
    plant.hear(held(A, 1), held(A, 2), held(A, 3))
    plant.deploy("a2")
    plant.redrive("a1")
    assert plant.stand() == [("a1", DONE), ("a2", OPEN), ("a3", OPEN)]
    assert plant.all()[plant.id("a2")].reason == "HANDLER_FAILED"
    plant.deploy()
    plant.hear(held(A, 4))
    assert plant.told() == ["a1"], "the key is parked still"
    plant.redrive("a2")
    assert plant.told() == ["a1", "a2", "a3", "a4"]


def test_a_redrive_that_fails_leaves_everything_as_it_was(plant: Plant) -> None:
    plant.deploy("a2")
    plant.hear(held(A, 1), held(A, 2), held(A, 3))
    before, letters = plant.snapshot(), plant.all()
    assert plant.redrive(runner=RUNNER) == 2
    assert plant.snapshot() == before
    assert plant.stand() == [("a2", OPEN), ("a3", OPEN)]
    after = plant.all()[plant.id("a2")]
    assert after.attempts == letters[plant.id("a2")].attempts + 1
    assert plant.all()[plant.id("a3")].attempts == 1, "it was not tried"
    plant.hear(held(A, 4))
    assert plant.told() == ["a1"]


def test_a_redrive_that_fails_half_way_keeps_what_went_through(plant: Plant) -> None:
    plant.deploy("a1", "a2", "a3")
    plant.hear(*(held(A, n) for n in range(1, 5)))
    plant.deploy("a3")
    plant.redrive(runner=RUNNER)
    assert plant.told() == ["a1", "a2"]
    assert plant.stand() == [("a1", DONE), ("a2", DONE), ("a3", OPEN), ("a4", OPEN)]


def test_keys_do_not_wait_for_one_another(plant: Plant) -> None:
    plant.deploy("a1", "b1")
    plant.hear(held(A, 1), held(B, 1), held(A, 2), held(B, 2))
    plant.deploy("a1")
    plant.redrive(runner=RUNNER)
    assert (plant.told(A), plant.told(B)) == ([], ["b1", "b2"])


def test_facts_have_no_order(plant: Plant) -> None:
    plant.deploy("f", "a1")
    plant.hear(held(A, None, id="f"), held(A, None, id="g"), held(A, 1), held(A, None, id="h"))
    assert plant.told() == ["g", "h"], "a fact stands behind nothing"
    plant.deploy("a1")
    assert plant.redrive("f") == 1
    assert plant.told() == ["g", "h", "f"]
    assert plant.bench.wakes, "the relay must hear of the events"


def test_the_relay_hears_of_what_one_letter_emits(plant: Plant) -> None:
    plant.deploy("f")
    plant.hear(held(A, None, id="f"))
    plant.deploy()
    plant.bench.wakes.clear()
    plant.redrive("f")
    assert plant.bench.wakes


def test_one_behind_another_is_refused_unless_both_are_chosen(plant: Plant) -> None:
    plant.deploy("a1", "a2")
    plant.hear(held(A, 1), held(A, 2), held(B, 1))
    with pytest.raises(Invalid) as caught:
        plant.redrive("a2")
    assert caught.value.reason == "OUT_OF_ORDER"
    assert plant.id("a1") in str(caught.value)
    assert {state for _, state in plant.stand()} == {OPEN}, "nothing was marked"
    plant.deploy()
    assert plant.redrive("a2", "a1") == 2
    assert plant.told() == ["a1", "a2"]


def test_one_behind_a_discarded_one_may_go(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1), held(A, 2))
    plant.discard("a1")
    plant.redrive("a2")
    assert plant.told() == ["a2"]
    assert plant.bench.states(PARKED) == {}


@pytest.mark.parametrize("act", ["redrive", "discard"])
def test_a_choice_must_narrow_and_be_known(plant: Plant, act: str) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1))
    more = ("because",) if act == "discard" else ()
    with pytest.raises(Invalid) as caught:
        asyncio.run(getattr(plant.letters, act)(Choice(), WHO, *more))
    assert (caught.value.reason, caught.value.field) == ("REQUIRED", "filter")
    with pytest.raises(Unknown, match="pharmaloop dlq list"):
        asyncio.run(getattr(plant.letters, act)(Choice((f"{RUNNER}|x|0|1",)), WHO, *more))
    assert plant.stand() == [("a1", OPEN)]


def test_a_letter_of_a_runner_that_is_gone_is_refused_and_may_be_discarded(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1))
    plant.letters = DeadLetters(plant.bench.waiting, {"rnd.renamed"})
    with pytest.raises(Rejected) as caught:
        plant.redrive("a1")
    assert caught.value.reason == "NO_SUCH_RUNNER"
    assert plant.discard("a1") == 1
    assert plant.bench.states(PARKED) == {}


def test_a_partition_of_another_instance_is_left_to_it(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1))
    plant.deploy()
    plant.runner.runner._positions.clear()  # its partitions have moved
    plant.redrive("a1")
    assert plant.stand() == [("a1", REDRIVE)]
    assert plant.told() == []


def test_two_instances_at_once_process_a_letter_once(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1), held(A, 2))
    plant.deploy()
    asyncio.run(plant.letters.redrive(Choice(runner=RUNNER), WHO))
    for runner in (plant.runner, plant.bench.making(plant.reactor)):
        runner.runner.look_aside()
    assert plant.told() == ["a1", "a2"]
    assert plant.bench.versions(LOT) == {A: 2}


def test_an_integrity_failure_in_a_redrive_is_no_verdict_on_the_letter(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1))

    def alarmed(work: Work, event: Event) -> None:
        raise Integrity("two states contradict each other")

    plant.runner = plant.bench.turner({production.LotHeld: alarmed})
    with pytest.raises(Integrity, match="contradict"):
        plant.redrive("a1")
    assert plant.stand() == [("a1", REDRIVE)]
    assert plant.all()[plant.id("a1")].attempts == 1


def test_a_database_that_goes_away_in_a_redrive_costs_nothing(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.deploy("a1", "b1")
    plant.hear(held(A, 1), held(B, 1))
    plant.deploy()
    asyncio.run(plant.letters.redrive(Choice(runner=RUNNER), WHO))
    real, left = MemoryStore.transact, [2]  # the search, one letter, and then no more

    def failing(self: MemoryStore, work: Callable[[Transaction], Any]) -> Any:
        left[0] -= 1
        if left[0] == -1:
            raise Retryable("MongoDB did not answer")
        return real(self, work)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "transact", failing)
        assert plant.runner.runner.look_aside() == 1
    assert sorted(state for _, state in plant.stand()) == [DONE, REDRIVE]
    plant.runner.settle()
    assert (plant.told(A), plant.told(B)) == (["a1"], ["b1"])


# -- discard ----------------------------------------------------------------


def test_a_discard_frees_the_key_and_is_recorded(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1), held(B, 1))
    assert plant.discard("a1", why="made by a test") == 1
    letter = plant.all()[plant.id("a1")]
    assert (letter.state, letter.judged_by, letter.judged_why) == (DISCARDED, WHO, "made by a test")
    assert letter.judged_at
    assert plant.bench.states(PARKED) == {}
    plant.hear(held(A, 2))
    assert plant.told() == ["a2"]
    assert plant.discard("a1", why="again") == 0
    assert plant.all()[plant.id("a1")].judged_why == "made by a test", "the record of it is not rewritten"


def test_a_discard_without_a_reason_is_refused(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1))
    for why in ("", "  "):
        with pytest.raises(Invalid) as caught:
            plant.discard("a1", why=why)
        assert (caught.value.reason, caught.value.field) == ("REQUIRED", "reason")
    assert plant.stand() == [("a1", OPEN)]


def test_a_key_stays_parked_while_a_letter_of_it_waits(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1), held(A, 2))
    plant.discard("a1")
    plant.hear(held(A, 3))
    assert plant.stand() == [("a1", DISCARDED), ("a2", OPEN), ("a3", OPEN)]
    plant.discard("a2", "a3")
    plant.hear(held(A, 4))
    assert plant.told() == ["a4"]


def test_who_discards_and_who_folds_at_once_do_not_lose_a_record(plant: Plant) -> None:
    # The discard reads no other letter of the key; before it commits, the runner puts one behind it.
    plant.deploy("a1")
    plant.hear(held(A, 1))
    waiting, real = plant.bench.waiting, type(plant.bench.waiting).transact
    once: list[int] = []

    async def transact(work: Any) -> Any:
        async def interrupted(txn: Any) -> Any:
            result = await work(txn)
            if not once:
                once.append(1)
                plant.hear(held(A, 2))
            return result

        return await real(waiting, interrupted)

    waiting.transact = transact  # type: ignore[method-assign]
    plant.discard("a1")
    assert once
    assert plant.stand() == [("a1", DISCARDED), ("a2", OPEN)]
    assert len(plant.bench.states(PARKED)) == 1, "a2 waits for a decision, and nothing may overtake it"


def test_a_discarded_record_that_comes_again_is_passed_over(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1))
    plant.discard("a1")
    letters = len(plant.bench.database.outbox)
    plant.bench.database.docs[MARKS.name].clear()  # the database knows less than the log
    plant.restart()
    plant.hear(held(A, 2))
    assert plant.stand() == [("a1", DISCARDED)]
    assert plant.told() == ["a2"]
    assert len(plant.bench.database.outbox) == letters + 1, "no second letter; the event of a2"


# -- while a view is made anew ----------------------------------------------

NEW = NOTE.pinned(2)


def begin_rebuild(plant: Plant) -> Turner:
    plant.bench.database.docs[REBUILDS.name][RUNNER] = REBUILDS.to_doc(RUNNER, 1, Rebuild(1, 2))
    return plant.bench.making(plant.reactor, 2, follows=1)


def swap(plant: Plant, made: Turner) -> None:
    plant.bench.database.docs[REBUILDS.name][RUNNER] = REBUILDS.to_doc(RUNNER, 2, Rebuild(2, 0))
    made.runner.go_live()
    plant.bench.database.names.live[NOTE.name] = 2
    plant.runner = made


def test_a_rebuild_passes_over_what_was_discarded_even_if_it_could_be_folded_now(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1), held(A, 2), held(A, 3))
    plant.discard("a1")
    plant.discard("a2")
    plant.redrive("a3")
    plant.deploy()
    begin_rebuild(plant).settle()
    assert plant.told(A, NEW) == plant.told(A) == ["a3"]
    assert [state for _, state in plant.stand()] == [DISCARDED, DISCARDED, DONE]


def test_a_letter_that_waits_has_its_effect_in_the_new_making_too(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1), held(A, 2), held(B, 1))
    plant.deploy()
    made = begin_rebuild(plant)
    made.settle()
    assert (plant.told(A, NEW), plant.told(B, NEW)) == ([], ["b1"])
    assert plant.stand() == [("a1", OPEN), ("a2", OPEN)], "the rebuild makes no letters of its own"
    swap(plant, made)
    plant.redrive(runner=RUNNER)
    assert plant.told(A, NEW) == ["a1", "a2"]
    assert plant.bench.versions(LOT) == {A: 2, B: 1}, "what the letter does beside the view was lost"
    plant.hear(held(A, 3))
    assert plant.told(A, NEW) == ["a1", "a2", "a3"]


def test_letters_rest_while_a_view_is_made_anew(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1), held(A, 2))
    plant.deploy()
    made = begin_rebuild(plant)
    plant.redrive(runner=RUNNER)
    assert plant.told() == []
    made.settle()
    assert plant.stand() == [("a1", REDRIVE), ("a2", REDRIVE)]
    swap(plant, made)
    made.settle()
    assert plant.told(A, NEW) == ["a1", "a2"]
    assert plant.bench.versions(LOT) == {A: 2}


def test_a_discard_frees_the_key_in_both_makings(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1))
    made = begin_rebuild(plant)
    made.settle()
    assert len(plant.bench.states(PARKED)) == 2
    plant.discard("a1")
    assert plant.bench.states(PARKED) == {}
    plant.hear(held(A, 2))
    made.settle()
    assert plant.told(A, NEW) == plant.told(A) == ["a2"]


def test_a_rebuild_that_cannot_fold_what_the_view_has_stops(plant: Plant) -> None:
    plant.hear(held(A, 1), held(B, 1))
    before = plant.snapshot()
    plant.bugs = {"a1"}
    made = begin_rebuild(plant)
    with pytest.raises(Integrity, match="the view that answers has folded it"):
        made.settle()
    assert plant.all() == {}
    assert plant.bench.marks() == 2
    del plant.bench.database.docs[REBUILDS.name][RUNNER]
    assert plant.snapshot() == before, "the view that answers is untouched"


def test_a_making_that_was_replaced_takes_nothing_up(plant: Plant) -> None:
    # A process that has not heard of the swap yet.
    plant.deploy("a1")
    plant.hear(held(A, 1))
    plant.deploy()
    old, made = plant.runner, begin_rebuild(plant)
    made.settle()
    swap(plant, made)
    asyncio.run(plant.letters.redrive(Choice(runner=RUNNER), WHO))
    assert old.runner.look_aside() == 0
    assert plant.stand() == [("a1", REDRIVE)]
    made.settle()
    assert plant.told(A, NEW) == ["a1"]


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


# -- any course of things ---------------------------------------------------

STEP = st.one_of(
    st.tuples(st.just("hear"), st.sampled_from([A, B]), st.booleans()),
    st.tuples(st.sampled_from(["redrive", "restart", "again"]), st.sampled_from([A, B]), st.booleans()),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(STEP, max_size=25))
def test_whatever_operators_do_each_event_acts_once_in_its_order(steps: list[tuple[str, str, bool]]) -> None:
    plant, sent = Plant(), {A: 0, B: 0}
    for what, lot, bad in steps:
        if what == "hear":
            sent[lot] += 1
            event = held(lot, sent[lot])
            plant.bugs |= {event.id} if bad else set()
            plant.hear(event)
        elif what == "again" and sent[lot]:
            plant.hear(held(lot, sent[lot]))
        elif what == "redrive":
            plant.bugs = set() if bad else plant.bugs
            asyncio.run(plant.letters.redrive(Choice(runner=RUNNER), WHO))
            plant.runner.settle()
        elif what == "restart":
            plant.restart()
    plant.deploy()
    plant.redrive(runner=RUNNER)
    for lot in (A, B):
        assert plant.told(lot) == [held(lot, n).id for n in range(1, sent[lot] + 1)]
    assert plant.bench.versions(LOT) == {lot: n for lot, n in sent.items() if n}
    assert {state for _, state in plant.stand()} <= {DONE}
    assert plant.bench.states(PARKED) == {}


# -- the list that operators see --------------------------------------------


def listed(plant: Plant, **wanted: Any) -> list[str]:
    """Events of the letters that the service lists, over pages of two."""
    app: Any = SimpleNamespace(store=plant.bench.waiting, makings=SimpleNamespace(runners=[]))
    servicer, found, token = OperationsServicer(app), list[str](), ""
    names = {id: event for event, id in ((event, plant.id(event)) for event, _ in plant.stand())}
    while True:
        request = api.ListDeadLettersRequest(
            filter=api.DeadLetterFilter(**wanted), page_size=2, page_token=token
        )
        answer = asyncio.run(servicer.ListDeadLetters(request, None))
        found += [names[letter.letter] for letter in answer.letters]
        token = answer.next_page_token
        if not token:
            return found


def test_the_list_gives_what_waits_oldest_first(plant: Plant) -> None:
    plant.deploy("b1", "a1", "f", "a9")
    for event in (held(B, 1), held(A, None, id="f"), held(A, 1), held(A, 2)):
        plant.hear(event)
    assert listed(plant) == ["b1", "f", "a1", "a2"]
    plant.discard("f")
    asyncio.run(plant.letters.redrive(Choice((plant.id("b1"),)), WHO))
    assert listed(plant) == ["b1", "a1", "a2"], "what is about to be processed waits as well"
    assert listed(plant, state="DEAD_LETTER_STATE_REDRIVE") == ["b1"]
    assert listed(plant, state="DEAD_LETTER_STATE_DISCARDED") == ["f"]
    assert listed(plant, reason="PARKED") == ["a2"]
    assert listed(plant, runner="rnd.other") == []
    assert listed(plant, letters=[plant.id("f"), plant.id("a1")]) == ["f", "a1"]
    assert listed(plant, letters=[plant.id("f")], state="DEAD_LETTER_STATE_OPEN") == []
    with pytest.raises(Unknown):
        listed(plant, letters=[f"{RUNNER}|x|0|1"])
