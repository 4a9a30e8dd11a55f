"""Letters of a loop between log and database: seen, settled in order, and whatever dies, none is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.kit.bus.memory import MemoryBus, MemoryConsumer
from services.kit.bus.protocol import Failure, Outgoing, Partition, Position, Record
from services.kit.envelope import Event, headers_of
from services.kit.errors import Integrity, Invalid, Rejected, Retryable
from services.kit.metrics import Metrics
from services.kit.operations import Choice, DeadLetters
from services.kit.runners.letters import DISCARDED, DONE, LETTERS, OPEN, REDRIVE, SENDING, Letter, Sent
from services.kit.runners.limit import PARKED_REASON as PARKED
from services.kit.runners.loop import Case, Effect, Loop
from services.kit.runners.loop_letters import LoopLetters
from services.kit.runners.loop_rows import Came, claim, done, told
from services.kit.runners.notes import MARKS
from services.kit.store.kinds import Plan, Stored, Write
from services.kit.store.memory import AsyncMemoryStore, MemoryDatabase, MemoryStore
from services.kit.store.protocol import Transaction
from tests.unit.kit.support import lot_event

T = TypeVar("T")
TOPIC = "pharmaloop.loops.case.v1"
RUNNER = "loops.test"
WHO = "person:li"
CASES = Partition(TOPIC, 0)


class Dies(BaseException):
    """The process is gone."""


@dataclass
class Fate:
    """Counts the steps of a process; at `dies_at` it is gone, before or after what the step does."""

    dies_at: int = -1
    steps: int = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.dies_at:
            raise Dies


class FatefulStore(MemoryStore):
    def __init__(self, database: MemoryDatabase, fate: Fate) -> None:
        super().__init__(database)
        self.fate = fate

    def transact(self, work: Callable[[Transaction], T]) -> T:
        self.fate.step()
        result = super().transact(work)
        self.fate.step()
        return result


@dataclass
class FatefulProducer:
    bus: MemoryBus
    fate: Fate

    def publish(self, records: Sequence[Outgoing]) -> Future[list[Position]]:
        self.fate.step()
        future = self.bus.producer().publish(records)
        self.fate.step()
        return future

    publish_ends = publish

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Heard:
    ids: tuple[str, ...] = ()


@dataclass
class World:
    """A loop on a case topic in memory, the runner of its letters, and an operator."""

    bus: MemoryBus = field(default_factory=lambda: MemoryBus(partitions=1))
    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    bugs: set[str] = field(default_factory=set)
    case: Case[Heard] | None = None
    next: int = 0
    holds: bool = True

    def __post_init__(self) -> None:
        self.loop: Loop[Heard] = Loop("test", Heard, self._react)
        self.operator = DeadLetters(AsyncMemoryStore(self.database), {"loops.router"}, {RUNNER})
        self.start()

    def _react(self, state: Heard | None, event: Event) -> tuple[Heard, list[Effect]]:
        if event.id in self.bugs:
            raise RuntimeError("a bug")
        return Heard((*(state or Heard()).ids, event.id)), []

    def start(self, dies_at: int = -1) -> None:
        """Another process of the letters' runner begins."""
        self.runner, self.reader = self.another(dies_at)

    def another(self, dies_at: int = -1) -> tuple[LoopLetters, MemoryConsumer]:
        fate = Fate(dies_at)
        store, producer = FatefulStore(self.database, fate), FatefulProducer(self.bus, fate)
        made = LoopLetters(RUNNER, TOPIC, self.bus, store, producer, Metrics("loops"), self.taken)
        return made, self.bus.reader({Partition(f"{TOPIC}.dlq", 0): 0})

    def taken(self) -> dict[Partition, int]:
        return {CASES: self.next} if self.holds else {}

    def say(self, *events: str) -> None:
        for event in events:
            name, _, seq = event.partition("-")
            sent = lot_event(name, int(seq))._replace(case="A", trace="00-aa-bb-01")
            body = sent.message.SerializeToString()
            self.bus.append(Outgoing(TOPIC, b"A", body, tuple(headers_of(sent))))

    def run_loop(self) -> None:
        """The loop takes what there is."""
        log = self.bus.records[CASES]
        while self.next < len(log):
            turn = self.loop.take(RUNNER, self.case, log[self.next])
            if turn.letter is not None:
                self.bus.append(turn.letter)
            self.case, self.next = turn.case, self.next + 1

    def look(self) -> None:
        while self.runner.take_in(self.reader, 0.0):
            pass
        self.runner.look(self.reader)

    def settle(self) -> None:
        """Until nobody has anything to do."""
        for _ in range(30):
            self.run_loop()
            self.look()

    def redrive(self, *events: str) -> int:
        return asyncio.run(self.operator.redrive(Choice(tuple(map(self.id, events)), RUNNER), WHO))

    def discard(self, *events: str) -> int:
        return asyncio.run(self.operator.discard(Choice(tuple(map(self.id, events)), RUNNER), WHO, "no use"))

    @property
    def rows(self) -> list[Stored[Letter]]:
        found = [LETTERS.from_doc(doc) for doc in self.database.docs[LETTERS.name].values()]
        return sorted(found, key=lambda one: one.id)

    def id(self, event: str) -> str:
        return next(one.id for one in self.rows if _event(one) == event)

    @property
    def stand(self) -> list[tuple[str, str]]:
        return [(_event(one), one.state.state) for one in self.rows]

    @property
    def heard(self) -> tuple[str, ...]:
        return self.case.state.ids if self.case and self.case.state else ()

    @property
    def parked(self) -> int:
        return len(self.case.parked) if self.case else 0

    @property
    def told(self) -> list[dict[str, str]]:
        """What the runner has published, by its marks."""
        marks = ("ce_id", "pl_redrive", "pl_discard")
        found = [dict(one.headers) for one in self.bus.records[CASES]]
        return [
            {name: one[name].decode() for name in marks if name in one}
            for one in found
            if "pl_redrive" in one or "pl_discard" in one
        ]


def _event(row: Stored[Letter]) -> str:
    return dict(row.state.record.headers)["ce_id"].decode()


@pytest.fixture
def world() -> World:
    return World()


def test_a_letter_is_a_row_with_the_record_as_it_was(world: World) -> None:
    world.bugs = {"x-1"}
    world.say("x-1", "x-2", "y-1")
    world.run_loop()
    world.look()
    first, second = world.rows
    original: Record = world.bus.records[CASES][0]
    assert first.id == f"{RUNNER}|{TOPIC}|0|{0:020d}"
    kept = first.state.record.record
    assert kept._replace(timestamp_ms=0) == original._replace(timestamp_ms=0)
    assert (first.state.reason, second.state.reason) == ("HANDLER_FAILED", PARKED)
    assert (first.state.state, first.state.attempts, first.state.waits) == (OPEN, 1, True)
    assert "a bug" in first.state.description
    assert first.state.key == second.state.key != ""
    assert world.heard == ("y-1",)
    assert world.runner.status.records == 2


def test_letters_are_processed_again_in_order_and_done_when_the_loop_has_taken_them(world: World) -> None:
    world.bugs = {"x-1"}
    world.say("x-1", "x-2", "x-3")
    world.run_loop()
    world.look()
    world.bugs = set()
    with pytest.raises(Invalid, match="stands before"):
        world.redrive("x-2")
    assert world.redrive("x-1") == 1
    world.look()
    assert world.stand[0] == ("x-1", REDRIVE), "the log has it, and the loop has not taken it"
    assert world.told == [{"ce_id": "x-1", "pl_redrive": f"{TOPIC}/0/0"}]
    world.run_loop()
    world.look()
    assert world.stand[:2] == [("x-1", DONE), ("x-2", REDRIVE)]
    world.look()
    assert [told["ce_id"] for told in world.told] == ["x-1", "x-2", "x-3"]
    world.settle()
    assert world.stand == [("x-1", DONE), ("x-2", DONE), ("x-3", DONE)], "what only followed goes on with it"
    assert world.rows[2].state.judged_by == WHO
    assert (world.heard, world.parked) == (("x-1", "x-2", "x-3"), 0)


def test_one_that_fails_again_is_open_with_one_try_more_and_so_is_what_follows(world: World) -> None:
    world.bugs = {"x-1"}
    world.say("x-1", "x-2")
    world.run_loop()
    world.look()
    world.redrive("x-1", "x-2")
    world.settle()
    assert world.stand == [("x-1", OPEN), ("x-2", OPEN)]
    assert [(one.state.attempts, one.state.reason) for one in world.rows] == [
        (2, "HANDLER_FAILED"),
        (1, PARKED),
    ]
    world.bugs = set()
    world.redrive("x-1", "x-2")
    world.settle()
    assert (world.stand, world.heard) == ([("x-1", DONE), ("x-2", DONE)], ("x-1", "x-2"))


def test_what_is_parked_while_the_last_letter_is_under_way_goes_on_after_it(world: World) -> None:
    world.bugs = {"x-1"}
    world.say("x-1")
    world.run_loop()
    world.look()
    world.bugs = set()
    world.redrive("x-1")
    world.say("x-2")
    world.look()  # x-1 is behind x-2 on the topic now
    world.say("x-3")
    world.settle()
    assert world.stand == [("x-1", DONE), ("x-2", DONE), ("x-3", DONE)]
    assert (world.heard, world.parked) == (("x-1", "x-2", "x-3"), 0)


def test_a_letter_that_is_given_up_is_told_to_the_loop_and_the_source_goes_on(world: World) -> None:
    world.bugs = {"x-1"}
    world.say("x-1")
    world.run_loop()
    world.look()
    assert world.discard("x-1") == 1
    world.settle()
    assert world.told == [{"pl_discard": f"{TOPIC}/0/0"}], "told once"
    (row,) = world.rows
    assert (row.state.state, row.state.judged_by, row.state.judged_why) == (DISCARDED, WHO, "no use")
    world.say("x-2")
    world.run_loop()
    assert (world.heard, world.parked) == (("x-2",), 0)


def test_what_stands_behind_one_that_is_given_up_waits_for_its_redrive(world: World) -> None:
    world.bugs = {"x-1"}
    world.say("x-1", "x-2", "x-3")
    world.run_loop()
    world.look()
    world.discard("x-1")
    world.settle()
    assert world.stand == [("x-1", DISCARDED), ("x-2", OPEN), ("x-3", OPEN)]
    world.redrive("x-2")
    world.settle()
    assert world.heard == ("x-2", "x-3")
    assert world.parked == 0


def test_a_letter_that_is_on_its_way_cannot_be_given_up(world: World) -> None:
    world.bugs = {"x-1"}
    world.say("x-1")
    world.run_loop()
    world.look()
    world.redrive("x-1")
    assert world.discard("x-1") == 1, "nothing is sent yet"
    assert world.rows[0].state.state == DISCARDED
    world.say("y-1")
    world.bugs = {"y-1"}
    world.settle()
    world.redrive("y-1")
    world.look()
    with pytest.raises(Rejected, match="on its way"):
        world.discard("y-1")
    world.settle()
    assert world.discard("y-1") == 1, "it has failed, and is open"


def test_a_letter_is_not_done_before_all_that_came_of_its_record_is_stored(world: World) -> None:
    world.bugs = {"x-1"}
    world.say("x-1")
    world.run_loop()
    world.look()
    world.redrive("x-1")
    world.look()
    world.run_loop()  # it fails again, and nobody has read the new letter yet
    world.runner.look(world.reader)
    assert [(one.state.state, one.state.attempts) for one in world.rows] == [(OPEN, 2)]


def test_what_was_judged_meanwhile_counts_more_than_what_was_sent_before(world: World) -> None:
    world.bugs = {"x-1"}
    world.say("x-1")
    world.run_loop()
    world.look()
    world.redrive("x-1")
    store = MemoryStore(world.database)
    (claimed,) = store.transact(lambda txn: claim(txn, world.rows[0].state.key))
    store.transact(
        lambda txn: txn.write(
            Plan((Write(LETTERS, claimed.id, claimed.version, claimed.version + 1, claimed.state),), ())
        )
    )
    before = world.rows
    store.transact(lambda txn: told(txn, claimed, Position(TOPIC, 0, 7)))
    store.transact(lambda txn: done(txn, claimed))
    assert world.rows == before


def test_nothing_is_sent_from_behind_an_open_letter(world: World) -> None:
    world.bugs = {"x-1"}
    world.say("x-1", "x-2")
    world.run_loop()
    world.look()
    # Chosen together with x-1, which has failed again before it came to this one.
    asyncio.run(world.operator._judge([world.id("x-2")], REDRIVE, WHO, ""))
    world.settle()
    assert world.told == []
    world.bugs = set()
    world.redrive("x-1", "x-2")
    world.settle()
    assert world.heard == ("x-1", "x-2")


@pytest.mark.parametrize(
    ("row", "after"),
    [
        ({"state": DISCARDED}, DISCARDED),
        ({"state": REDRIVE, "untold": True}, REDRIVE),
        ({"state": REDRIVE, "untold": True, "sent": SENDING}, OPEN),
        ({"state": REDRIVE, "sent": Sent(0, 5)}, OPEN),
        ({"state": REDRIVE, "sent": Sent(0, 6)}, REDRIVE),
        ({"state": DONE}, OPEN),
    ],
)
def test_only_the_letter_of_the_newest_sending_counts(world: World, row: dict[str, Any], after: str) -> None:
    world.bugs = {"x-1"}
    world.say("x-1")
    world.run_loop()
    world.look()
    letter = world.rows[0].state
    came = Came(world.rows[0].id, 5, True, letter)
    before = replace(letter, **row)
    found = came.onto(before)
    assert found.state == after
    assert (found is before) == (after != OPEN)


def test_letters_of_others_and_garbage_are_passed_over(world: World) -> None:
    dlq = f"{TOPIC}.dlq"
    world.bus.append(Outgoing(dlq, b"A", b"", ()))
    world.bus.append(Outgoing(dlq, b"A", b"", (("dlq_runner", b"rnd.stories"), ("dlq_offset", b"0"))))
    world.bus.append(Outgoing(dlq, b"A", b"\xff", (("dlq_runner", RUNNER.encode()), ("dlq_offset", b"\xff"))))
    world.look()
    assert world.rows == []
    assert world.database.docs[MARKS.name][f"{RUNNER}.letters|1|{dlq}|0"]["s"]["next"] == 3


def test_a_record_without_a_source_has_no_order_and_the_loop_need_not_hear_of_it(world: World) -> None:
    world.bus.append(Outgoing(TOPIC, b"A", b"\xff", ()))
    world.bus.append(Outgoing(TOPIC, b"A", b"\xfe", ()))
    world.run_loop()
    world.look()
    first, second = world.rows
    assert (first.state.key, second.state.key) == ("", "")
    asyncio.run(world.operator.discard(Choice((first.id,)), WHO, "garbage"))
    asyncio.run(world.operator.redrive(Choice((second.id,)), WHO))
    world.settle()
    assert [(one.state.state, one.state.attempts) for one in world.rows] == [(DISCARDED, 1), (OPEN, 2)]
    assert [list(one) for one in world.told] == [["pl_redrive"]]


def test_only_who_holds_the_partition_tells(world: World) -> None:
    world.bugs = {"x-1"}
    world.say("x-1")
    world.run_loop()
    world.look()
    world.bugs = set()
    world.redrive("x-1")
    world.holds = False
    world.look()
    assert world.told == []
    world.holds = True
    world.settle()
    assert world.stand == [("x-1", DONE)]


def test_a_letter_that_the_loop_sends_twice_is_one_row(world: World) -> None:
    world.bugs = {"x-1"}
    world.say("x-1")
    before = world.case
    world.run_loop()
    world.case, world.next = before, 0  # it died before it had stored the case
    world.run_loop()
    world.look()
    assert len(world.bus.records[Partition(f"{TOPIC}.dlq", 0)]) == 2
    assert [(one.state.state, one.state.attempts) for one in world.rows] == [(OPEN, 1)]


def test_of_two_processes_the_one_that_is_behind_reads_again(world: World) -> None:
    world.bugs = {"x-1", "y-1"}
    world.say("x-1")
    world.run_loop()
    other, reader = world.another()
    assert other.take_in(reader, 0.0) == 1
    assert world.runner.take_in(world.reader, 0.0) == 0, "fenced"
    world.say("y-1")
    world.run_loop()
    assert world.runner.take_in(world.reader, 0.0) == 1
    assert other.take_in(reader, 0.0) == 0
    assert world.stand == [("x-1", OPEN), ("y-1", OPEN)]


def test_a_log_that_takes_nothing_is_waited_for(world: World) -> None:
    world.bugs = {"x-1", "y-1"}
    world.say("x-1", "y-1")
    world.run_loop()
    world.look()
    world.bugs = set()
    world.redrive("x-1", "y-1")
    world.bus.refuse = lambda record: (
        Failure("topic", "full") if b"x" in dict(record.headers).values() else None
    )
    with pytest.raises(Retryable, match="full"):
        world.look()
    assert [told["ce_id"] for told in world.told] == ["y-1"], "the other key goes on"
    world.bus.refuse = lambda record: None
    world.settle()
    assert world.stand == [("x-1", DONE), ("y-1", DONE)]


def test_a_database_that_is_away_is_waited_for_and_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.bugs = {"x-1"}
    world.say("x-1")
    world.run_loop()
    runner, store = world.runner, world.runner._store

    def fails(work: Any) -> Any:
        raise Retryable("the database is away")

    monkeypatch.setattr(store, "transact", fails)
    runner.start()
    _until(lambda: runner.status.state == "waiting")
    assert runner.status.detail == "the database is away"
    monkeypatch.undo()
    _until(lambda: runner.status.state == "running" and len(world.rows) == 1)
    assert runner.positions() == {Partition(f"{TOPIC}.dlq", 0): 1}
    runner.stop()
    runner.join(10)
    assert runner.status.state == "stopped"


def test_what_cannot_mend_is_told_as_failed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(work: Any) -> Any:
        raise Integrity("two states contradict each other")

    monkeypatch.setattr(world.runner._store, "transact", refuses)
    world.runner.start()
    _until(lambda: world.runner.status.state == "failed")
    assert "contradict" in world.runner.status.detail


def _until(holds: Callable[[], bool]) -> None:
    async def wait() -> None:
        async with asyncio.timeout(20):
            while not holds():
                await asyncio.sleep(0.01)

    asyncio.run(wait())


Actions = st.lists(
    st.tuples(
        st.sampled_from(["x", "y", "loop", "look", "look", "dies", "redrive", "discard", "bug", "mend"]),
        st.integers(1, 12),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(Actions)
def test_whatever_dies_between_two_steps_every_letter_is_settled_once_and_in_order(
    actions: list[tuple[str, int]],
) -> None:
    world, sent = World(), {"x": 0, "y": 0}
    for what, n in actions:
        if what in sent:
            sent[what] += 1
            world.say(f"{what}-{sent[what]}")
        elif what == "bug":
            world.bugs |= {f"{name}-{newest + 1}" for name, newest in sent.items()}
        else:
            _happens(world, what, n)
    world.bugs.clear()
    world.settle()
    for _ in range(3):  # one that came back after a crash may be open once more
        asyncio.run(world.operator.redrive(Choice(runner=RUNNER), WHO))
        world.settle()
    given_up = {event for event, state in world.stand if state == DISCARDED}
    assert {state for _, state in world.stand} <= {DONE, DISCARDED}
    assert world.parked == 0
    for name, newest in sent.items():
        heard = [id for id in world.heard if id.startswith(name)]
        assert heard == [f"{name}-{n}" for n in range(1, newest + 1) if f"{name}-{n}" not in given_up]


def _happens(world: World, what: str, n: int) -> None:
    waiting = [one.id for one in world.rows if one.state.waits]
    match what:
        case "loop":
            world.run_loop()
        case "look":
            world.look()
        case "dies":
            world.start(n)
            with contextlib.suppress(Dies):
                world.look()
            world.start()
        case "redrive":
            asyncio.run(world.operator.redrive(Choice(runner=RUNNER), WHO))
        case "discard" if waiting:
            with contextlib.suppress(Rejected):  # it is on its way
                asyncio.run(world.operator.discard(Choice((waiting[n % len(waiting)],)), WHO, "no use"))
        case "mend":
            world.bugs.clear()
