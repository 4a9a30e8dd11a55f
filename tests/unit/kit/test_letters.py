"""What operators do with dead letters: processed again in order, given up for good, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharmaloop.common.v1 import operations_pb2 as api
from pharmaloop.production.v1 import events_pb2 as production
from services.kit import operations
from services.kit.envelope import Event
from services.kit.errors import Integrity, Invalid, Rejected, Retryable, Unknown
from services.kit.operations import Choice, DeadLetters
from services.kit.rpc.operations import OperationsServicer
from services.kit.runners import aside
from services.kit.runners.letters import DISCARDED, DONE, LETTERS, OPEN, REDRIVE
from services.kit.runners.notes import MARKS, PARKED
from services.kit.runners.reactor import Reactor
from services.kit.store.memory import MemoryStore, MemoryTransaction
from services.kit.store.protocol import Transaction
from services.kit.work import Work
from tests.unit.kit.plant import RUNNER, WHO, A, B, Plant, held
from tests.unit.kit.support import LOT, NOTE, CountingStore


@pytest.fixture
def plant() -> Plant:
    return Plant()


# -- redrive ----------------------------------------------------------------


def mark(plant: Plant) -> None:
    """Every letter of the runner is to be processed again; nobody has begun."""
    asyncio.run(plant.letters.redrive(Choice(runner=RUNNER), WHO))


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
    plant.runner.runner._lost(plant.runner.runner.positions())
    plant.redrive("a1")
    assert plant.stand() == [("a1", REDRIVE)]
    assert plant.told() == []


def test_two_instances_at_once_process_a_letter_once(plant: Plant) -> None:
    plant.deploy("a1")
    plant.hear(held(A, 1), held(A, 2))
    plant.deploy()
    mark(plant)
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
    mark(plant)
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


# -- many ------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "_TOGETHER", 10)


def many(plant: Plant, count: int) -> None:
    """So many letters of one key: the first has failed, the others stand behind it."""
    plant.deploy("a1")
    plant.hear(*(held(A, n) for n in range(1, count + 1)))
    assert len(plant.stand()) == count


def test_many_letters_of_a_key_cost_few_transactions(plant: Plant) -> None:
    many(plant, 25)
    counting = plant.bench.waiting = CountingStore(plant.bench.database)
    plant.letters = DeadLetters(counting, {RUNNER})
    plant.deploy()
    assert plant.redrive(runner=RUNNER) == 25
    assert counting.transactions == 3
    assert plant.told() == [f"a{n}" for n in range(1, 26)]
    assert plant.bench.states(PARKED) == {}


def test_a_key_is_not_taken_up_before_all_its_letters_are_marked(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(plant, 25)
    real, between = type(plant.bench.waiting).transact, list[int]()

    async def transact(store: Any, work: Any) -> Any:
        result = await real(store, work)
        between.append(plant.runner.settle())
        return result

    with monkeypatch.context() as patch:
        patch.setattr(type(plant.bench.waiting), "transact", transact)
        plant.redrive(runner=RUNNER)
    assert between == [0, 0, 0], "the runner went on between two transactions, with half of the key"
    assert {state for _, state in plant.stand()} == {OPEN}, (
        "a letter behind the one that failed was left over"
    )
    assert plant.all()[plant.id("a1")].attempts == 2


def test_a_redrive_that_is_cut_off_is_taken_up_by_the_next(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(plant, 25)
    plant.deploy()
    real, left = type(plant.bench.waiting).transact, [2]

    async def failing(store: Any, work: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Retryable("MongoDB did not answer")
        return await real(store, work)

    with monkeypatch.context() as patch:
        patch.setattr(type(plant.bench.waiting), "transact", failing)
        with pytest.raises(Retryable):
            plant.redrive(runner=RUNNER)
    plant.runner.settle()
    assert plant.told() == []
    plant.redrive(runner=RUNNER)
    assert plant.told() == [f"a{n}" for n in range(1, 26)]
    assert plant.bench.versions(LOT) == {A: 25}


def test_many_discarded_letters_free_their_key_once_none_waits(plant: Plant) -> None:
    many(plant, 25)
    plant.discard(*(f"a{n}" for n in range(1, 25)))
    assert len(plant.bench.states(PARKED)) == 1, "one of them waits still"
    plant.discard("a25")
    assert plant.bench.states(PARKED) == {}
    plant.hear(held(A, 26))
    assert plant.told() == ["a26"]


def test_a_key_with_many_letters_is_not_read_whole_for_each(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(plant, 120)
    plant.deploy()
    mark(plant)
    read: list[int] = []
    real = MemoryTransaction.load

    def load(self: MemoryTransaction, reads: Any) -> Any:
        loaded = real(self, reads)
        read.extend(len(found) for get, found in loaded.items() if get.kind is LETTERS)
        return loaded

    with monkeypatch.context() as patch:
        patch.setattr(MemoryTransaction, "load", load)
        plant.runner.settle()
    assert len(plant.told()) == 120
    assert sum(read) < 120 * 10


def test_a_look_that_takes_long_leaves_the_rest_to_the_next(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(plant, 5)
    plant.deploy()
    mark(plant)
    monkeypatch.setattr(aside, "_LOOK_SECONDS", 0.0)
    assert [plant.runner.runner.look_aside() for _ in range(6)] == [1, 1, 1, 1, 1, 0]
    assert plant.told() == ["a1", "a2", "a3", "a4", "a5"]


def test_one_discarded_while_its_key_is_processed_is_passed_over(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(plant, 6)
    plant.deploy()
    mark(plant)
    handle = plant.handle

    def discarding(work: Work, event: Event) -> None:
        handle(work, event)
        if event.id == "a2":
            ids = tuple(plant.id(f"a{n}") for n in (3, 4))
            asyncio.run(plant.letters.discard(Choice(ids), WHO, "meanwhile"))

    monkeypatch.setattr(plant, "handle", discarding)
    plant.reactor = Reactor("test", {production.LotHeld: discarding}, views=(NOTE,))
    plant.restart()
    plant.runner.settle()
    assert plant.told() == ["a1", "a2", "a5", "a6"]
    assert plant.bench.states(PARKED) == {}


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
            mark(plant)
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
    spec, makings = SimpleNamespace(name="rnd", loops=()), SimpleNamespace(runners=[])
    app: Any = SimpleNamespace(store=plant.bench.waiting, makings=makings, spec=spec)
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
