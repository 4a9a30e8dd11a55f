"""The loop driver in memory: whatever dies between two steps, no effect is lost and none changes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharmaloop.loops.v1 import events_pb2 as loops
from services.kit import points
from services.kit.bus.protocol import Outgoing, Record
from services.kit.envelope import Event, headers_of
from services.kit.errors import Integrity
from services.kit.runners.limit import PARKED_REASON as PARKED
from services.kit.runners.limit import DeadLetterLimit
from services.kit.runners.loop import Effect, Loop, offset_of
from services.kit.runners.loop_driver import LoopDriver, Lost
from tests.unit.kit.support import lot_event

TOPIC = "pharmaloop.loops.case.v1"
RUNNER = "loops.test"
P = 0


@dataclass(frozen=True)
class Heard:
    """Which events a case has heard, in order."""

    ids: tuple[str, ...] = ()


def react(state: Heard | None, event: Event) -> tuple[Heard, list[Effect]]:
    if event.actor == "faulty":
        raise RuntimeError("a bug")
    after = Heard((*(state or Heard()).ids, event.id))
    n, run = len(after.ids), f"run-{event.case}"
    stage = loops.StageCompleted(run=run, stage=f"stage-{n}")
    seal = loops.SealRequested(run=run, version=n)
    return after, [Effect(stage, run, 2 * n - 1), Effect(seal, run, 2 * n)]


LOOP: Loop[Heard] = Loop("test", Heard, react)


class Dies(BaseException):
    """The process is gone."""


@dataclass
class Log:
    """What outlives a process: the case topic, changelog, effects and letters as the log has them."""

    records: list[Record] = field(default_factory=list)
    changelog: list[tuple[bytes, bytes]] = field(default_factory=list)
    sent: list[Outgoing] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)

    def add(self, event: Event, value: bytes | None = None, **headers: str) -> Record:
        pairs = (*headers_of(event._replace(trace="00-aa-bb-01")), *_pairs(headers))
        body = event.message.SerializeToString() if value is None else value
        return self.add_raw(event.case.encode(), body, pairs)

    def add_raw(self, key: bytes | None, value: bytes | None, headers: Any = ()) -> Record:
        record = Record(TOPIC, P, len(self.records), key, value, tuple(headers), 1_790_000_000_000)
        self.records.append(record)
        return record

    def effects(self) -> list[Outgoing]:
        return [record for record in self.sent if not record.topic.endswith(".dlq")]

    def letters(self) -> list[dict[str, str]]:
        letters = [record for record in self.sent if record.topic.endswith(".dlq")]
        return [{name: value.decode() for name, value in letter.headers} for letter in letters]


def _pairs(headers: dict[str, str]) -> list[tuple[str, bytes]]:
    return [(name, value.encode()) for name, value in headers.items()]


@dataclass
class Worker:
    """A port over memory. `steps` counts what it does; at `dies_at` it dies before the step."""

    log: Log
    table: dict[bytes, bytes]
    dies_at: int = -1
    steps: int = 0
    owns: bool = True
    seeks: list[int] = field(default_factory=list)

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.dies_at:
            raise Dies

    def mine(self, partition: int) -> bool:
        return self.owns

    def get(self, partition: int, key: bytes) -> bytes | None:
        return self.table.get(key)

    def put(self, partition: int, key: bytes, value: bytes) -> None:
        self.step()
        self.table[key] = value

    def cases(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        return list(self.table.items())

    def undone(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        last = dict(self.log.changelog)
        return [
            (key, value)
            for key, value in self.table.items()
            if key in last and offset_of(last[key]) < offset_of(value)
        ]

    async def end(self, partition: int) -> int:
        return len(self.log.records)

    async def first(self, partition: int, offset: int) -> int:
        after = (record.offset for record in self.log.records if record.offset >= offset)
        return next((at for at in after if at not in self.log.gone), len(self.log.records))

    async def confirm(self, partition: int, key: bytes, value: bytes) -> None:
        self.step()
        if not self.owns:
            raise Lost("gone")
        await asyncio.sleep(0)
        self.log.changelog.append((key, value))

    async def send(self, partition: int, record: Outgoing) -> None:
        self.step()
        await asyncio.sleep(0)
        self.log.sent.append(record)

    async def seek(self, partition: int, offset: int) -> None:
        self.seeks.append(offset)


def recovered(changelog: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """A table read from the changelog: of each case what took the latest record."""
    return dict(sorted(changelog, key=lambda change: offset_of(change[1])))


def driver_of(worker: Worker, **options: Any) -> LoopDriver[Heard]:
    driver = LoopDriver(LOOP, RUNNER, worker, **options)
    driver.assigned([P])
    return driver


async def deliver(worker: Worker, driver: LoopDriver[Heard], start: int) -> None:
    """Play the stream library: from `start` on, again from where the driver asks."""
    await driver.settle(P)
    at = start
    while at < len(worker.log.records):
        await driver.take(worker.log.records[at])
        at = worker.seeks.pop() if worker.seeks else at + 1


def cased(name: str, seq: int | None, case: str = "A", **fields: Any) -> Event:
    return lot_event(name, seq)._replace(case=case, **fields)


def kinds(table: dict[bytes, bytes]) -> dict[bytes, Any]:
    """The cases without offsets, which a repeat moves on."""
    return {key: replace(LOOP.load(raw), at=0) for key, raw in table.items()}


def news(sent: Iterable[Outgoing]) -> dict[tuple[str, str], list[Outgoing]]:
    """What a receiver keeps that drops what is not newer than the last it saw, by topic and key."""
    kept: dict[tuple[str, str], list[Outgoing]] = defaultdict(list)
    last: dict[tuple[str, str], int] = defaultdict(int)
    for record in sent:
        place = (record.topic, record.key.decode())
        seq = int(dict(record.headers)["pl_seq"])
        if seq > last[place]:
            last[place] = seq
            kept[place].append(record)
    return dict(kept)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def worker(log: Log) -> Worker:
    return Worker(log, {})


# -- nothing is lost --------------------------------------------------------

Deliveries = st.lists(
    st.tuples(st.sampled_from("AB"), st.sampled_from("xyz"), st.integers(1, 4), st.booleans()),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(
    deliveries=Deliveries,
    crashes=st.lists(
        st.tuples(st.integers(1, 14), st.booleans(), st.integers(-3, 3), st.booleans(), st.integers(0, 5)),
        max_size=6,
    ),
)
def test_no_effect_is_lost_whatever_dies_between_two_steps(
    deliveries: list[tuple[str, str, int, bool]], crashes: list[tuple[int, bool, int, bool, int]]
) -> None:
    calm, log = Log(), Log()
    for case, name, seq, good in deliveries:
        event = cased(name, seq, case)
        for one in (calm, log):
            one.add(event, None if good else b"\xff")
    quiet = Worker(calm, {})
    asyncio.run(deliver(quiet, driver_of(quiet), 0))

    table: dict[bytes, bytes] = {}
    committed = 0
    for dies_at, keeps_disk, commit_shift, cancelled, late in crashes:
        worker = Worker(log, table, dies_at)
        driver = driver_of(worker)
        try:
            asyncio.run(deliver(worker, driver, committed))
        except Dies:
            if cancelled:
                # The handler is cancelled and its record acknowledged; the worker lives on.
                worker.dies_at = -1
                at = driver.tracks[P].next
                for record in log.records[at + 1 : at + 2]:
                    asyncio.run(driver.take(record))
        # What the group has committed may be behind, and may be past what was taken.
        committed = max(0, min(len(log.records), driver.tracks[P].next + commit_shift))
        if late:  # a frozen worker that had this one under way sends it now
            log.changelog.extend(log.changelog[-late:][:1])
        if not keeps_disk:
            table = recovered(log.changelog)
    worker = Worker(log, table)
    driver = driver_of(worker)
    asyncio.run(deliver(worker, driver, committed))
    if asyncio.run(driver.mend(P, committed, 0)):
        asyncio.run(deliver(worker, driver, worker.seeks.pop()))

    assert kinds(table) == kinds(quiet.table)
    assert kinds(dict(log.changelog)) == kinds(dict(calm.changelog)), "the changelog alone is as good"
    assert news(log.effects()) == news(calm.effects()), "each in order, with the same id and bytes"
    places = {(letter["dlq_offset"], letter["dlq_reason"]) for letter in log.letters()}
    assert places == {(letter["dlq_offset"], letter["dlq_reason"]) for letter in calm.letters()}


async def test_a_partition_is_settled_before_its_first_record(log: Log, worker: Worker) -> None:
    log.add(cased("x", 1))
    await deliver(worker, driver_of(worker), 0)
    before = log.effects()
    log.add(cased("y", 1))
    await driver_of(worker).take(log.records[1])
    again, after = log.effects()[2:4], log.effects()[4:]
    assert again == before, "the effects due of the latest record, as they were"
    assert [dict(record.headers)["pl_seq"] for record in after] == [b"3", b"4"]


async def test_only_the_latest_record_of_a_partition_is_in_doubt(log: Log, worker: Worker) -> None:
    for case in "ABC":
        log.add(cased("x", 1, case))
    await deliver(worker, driver_of(worker), 0)
    log.sent.clear()
    log.changelog.clear()
    driver = driver_of(worker)
    await driver.settle(P)
    assert {record.key for record in log.effects()} == {b"run-C"}
    assert [key for key, _ in log.changelog] == [b"C"], "the table may be ahead of the changelog"
    await driver.settle(P)
    assert len(log.effects()) == 2, "once is enough"


async def test_a_record_whose_handler_was_cancelled_is_finished_before_the_next(
    log: Log, worker: Worker
) -> None:
    log.add(cased("x", 1))
    log.add(cased("y", 1))
    driver = driver_of(worker)
    worker.dies_at = 4  # the case is stored and in the changelog, one effect of two is sent
    with pytest.raises(Dies):
        await driver.take(log.records[0])
    assert len(log.effects()) == 1
    await driver.take(log.records[1])
    assert [dict(record.headers)["pl_seq"] for record in log.effects()] == [b"1", b"1", b"2", b"3", b"4"]


async def test_records_that_were_passed_over_are_asked_for(log: Log, worker: Worker) -> None:
    for n in range(1, 5):
        log.add(cased("x", n))
    driver = driver_of(worker)
    await driver.take(log.records[0])
    await driver.take(log.records[2])
    await driver.take(log.records[3])
    assert worker.seeks == [1], "asked once; what was on its way is left out"
    for record in log.records[1:]:
        await driver.take(record)
    assert LOOP.load(worker.table[b"A"]).state == Heard(("x-1", "x-2", "x-3", "x-4"))


async def test_a_hole_in_the_log_is_no_reason_to_wait_for_ever(log: Log, worker: Worker) -> None:
    first, _, third = log.add(cased("x", 1)), log.add(cased("x", 2)), log.add(cased("x", 3))
    log.gone = {1}
    driver = driver_of(worker)
    await driver.take(first)
    await driver.take(third)
    assert worker.seeks == [1]
    assert LOOP.load(worker.table[b"A"]).state == Heard(("x-1",))
    await driver.take(third)  # read again from 1, and it is still the first to come
    assert worker.seeks == [1]
    assert LOOP.load(worker.table[b"A"]).state == Heard(("x-1", "x-3"))


async def test_a_consumer_that_was_sent_elsewhere_at_the_same_moment_is_asked_again(
    log: Log, worker: Worker
) -> None:
    """While partitions are handed over, an ask may be overtaken: the same late record comes twice."""
    records = [log.add(cased("x", n)) for n in range(1, 5)]
    driver = driver_of(worker)
    await driver.take(records[0])
    await driver.take(records[3])
    await driver.take(records[3])  # not from 1, though it was asked for
    assert worker.seeks == [1, 1]
    for record in records[1:]:
        await driver.take(record)
    assert LOOP.load(worker.table[b"A"]).state == Heard(("x-1", "x-2", "x-3", "x-4"))


async def test_what_was_acknowledged_and_not_taken_is_asked_for_without_a_new_record(
    log: Log, worker: Worker
) -> None:
    for n in (1, 2):
        log.add(cased("x", n))
    driver = driver_of(worker)
    await driver.take(log.records[0])
    assert not await driver.mend(P, 1, 0)
    assert await driver.mend(P, 2, 0)
    assert worker.seeks == [1]
    assert not await driver.mend(P, 2, 0), "once is asked; the answer may take a while"
    assert await driver.mend(P, 2, 0), "and it is asked again when nothing comes"
    await driver.take(log.records[1])
    assert LOOP.load(worker.table[b"A"]).state == Heard(("x-1", "x-2"))


async def test_a_record_that_the_log_has_and_does_not_come_is_asked_for(log: Log, worker: Worker) -> None:
    for n in (1, 2):
        log.add(cased("x", n))
    driver = driver_of(worker)
    await driver.take(log.records[0])
    assert not await driver.mend(P, 1, 2), "it may be on its way"
    assert not await driver.mend(P, 1, 0), "others come: it waits its turn"
    assert not await driver.mend(P, 1, 2)
    assert await driver.mend(P, 1, 2), "two looks, and nothing came"
    assert worker.seeks == [1]
    await driver.take(log.records[1])
    assert not await driver.mend(P, 1, 2)
    assert not await driver.mend(P, 1, 2), "all is taken"


async def test_nothing_is_written_for_a_partition_that_went_away(log: Log, worker: Worker) -> None:
    record = log.add(cased("x", 1))
    driver = driver_of(worker)
    await driver.settle(P)
    worker.owns = False
    await driver.take(record)
    assert (worker.table, log.changelog, log.sent) == ({}, [], [])
    driver.revoked()
    worker.owns = True
    await driver.take(record)
    assert worker.table == {}, "between two assignments nothing is taken"


async def test_points_are_passed_in_order(log: Log, worker: Worker) -> None:
    passed: list[tuple[str, int, int]] = []
    points.arm(lambda point: passed.append((point, len(log.changelog), len(log.sent))))
    try:
        await driver_of(worker).take(log.add(cased("x", 1)))
    finally:
        points.arm(None)
    assert passed == [("loop.stored", 0, 0), ("loop.sent", 1, 2)]


# -- dead letters -------------------------------------------------------------


def bad_records(log: Log) -> None:
    good = headers_of(cased("g", 1)._replace(trace="00-aa-bb-01"))
    without = [pair for pair in good if pair[0] != "ce_id"]
    other = [pair if pair[0] != "ce_type" else ("ce_type", b"pharmaloop.x.v1.No") for pair in good]
    log.add(cased("a", 1), b"\xff\xff")
    log.add_raw(b"A", None, headers_of(cased("b", 1)))
    log.add_raw(b"A", b"", without)
    log.add_raw(b"A", b"", other)
    log.add(cased("c", None))
    log.add_raw(None, b"", headers_of(cased("d", 1)))
    log.add(cased("e", 1, actor="faulty"))


async def test_what_cannot_be_processed_is_a_letter_with_everything(log: Log, worker: Worker) -> None:
    bad_records(log)
    told: list[tuple[int, str]] = []
    driver = driver_of(worker, told=lambda record, turn: told.append((record.offset, turn.reason)))
    await deliver(worker, driver, 0)
    reasons = [
        "UNDECODABLE", "UNDECODABLE", "NO_HEADER", "UNKNOWN_TYPE", "NO_VERSION", "NO_KEY", "HANDLER_FAILED",
    ]  # fmt: skip
    assert [letter["dlq_reason"] for letter in log.letters()] == reasons
    assert told == list(enumerate(reasons))
    first = log.sent[0]
    assert (first.topic, first.key, first.value) == (f"{TOPIC}.dlq", b"A", b"\xff\xff")
    assert first.headers[: len(log.records[0].headers)] == log.records[0].headers
    kept = {name: value for name, value in log.letters()[0].items() if name.startswith("dlq_")}
    assert kept.pop("dlq_description").startswith("the value is not a pharmaloop.production.v1.LotStarted")
    assert kept == {
        "dlq_reason": "UNDECODABLE",
        "dlq_runner": RUNNER,
        "dlq_topic": TOPIC,
        "dlq_partition": "0",
        "dlq_offset": "0",
    }


async def test_a_source_is_parked_behind_its_dead_letter_and_the_others_go_on(
    log: Log, worker: Worker
) -> None:
    log.add(cased("x", 1))
    log.add(cased("x", 2), b"\xff")
    log.add(cased("x", 3))
    log.add(cased("y", 1))
    log.add(cased("x", 1, case="B"))
    log.add(cased("x", 1))
    log.add(cased("x", 4))
    driver = driver_of(worker)
    await deliver(worker, driver, 0)
    assert [(letter["pl_seq"], letter["dlq_reason"]) for letter in log.letters()] == [
        ("2", "UNDECODABLE"), ("3", PARKED), ("4", PARKED),
    ]  # fmt: skip
    assert f"{TOPIC}/0/1" in log.letters()[1]["dlq_description"]
    assert LOOP.load(worker.table[b"A"]).state == Heard(("x-1", "y-1")), "a repeat is no news and no letter"
    assert LOOP.load(worker.table[b"B"]).state == Heard(("x-1",)), "parked in its own case alone"
    assert driver.parked == 1
    again = driver_of(worker)
    await again.settle(P)
    assert again.parked == 1, "also after a restart"


def at(offset: int) -> str:
    return f"{TOPIC}/{P}/{offset}"


async def test_letters_are_settled_in_order_and_with_the_last_the_source_is_free(
    log: Log, worker: Worker
) -> None:
    log.add(cased("x", 1), b"\xff")
    log.add(cased("x", 2))
    log.add(cased("x", 1), pl_redrive=at(0))
    log.add(cased("x", 3))
    log.add(cased("x", 2), pl_redrive=at(1), dlq_reason="PARKED")
    log.add(cased("x", 3), pl_discard=at(3))
    log.add(cased("x", 4))
    driver = driver_of(worker)
    await deliver(worker, driver, 0)
    assert LOOP.load(worker.table[b"A"]).state == Heard(("x-1", "x-2", "x-4"))
    assert [letter["dlq_offset"] for letter in log.letters()] == ["0", "1", "3"]
    assert driver.parked == 0


async def test_a_redrive_that_fails_keeps_the_source_parked(log: Log, worker: Worker) -> None:
    log.add(cased("x", 1), b"\xff")
    log.add(cased("x", 1), b"\xff", pl_redrive=at(0), dlq_reason="UNDECODABLE", dlq_offset="0")
    log.add(cased("x", 2))
    driver = driver_of(worker)
    await deliver(worker, driver, 0)
    assert [letter["dlq_reason"] for letter in log.letters()] == ["UNDECODABLE", "UNDECODABLE", PARKED]
    names = [name for name, _ in log.sent[1].headers]
    assert len(names) == len(set(names)), "the reasons of the first letter are gone"
    assert (log.letters()[1]["dlq_offset"], log.letters()[1]["pl_redrive"]) == ("1", at(0))
    assert LOOP.load(worker.table[b"A"]).parked == {"/svc/production/lot|x": (0, 2)}
    assert driver.parked == 1


async def test_a_letter_is_not_sent_again_when_its_record_comes_again(log: Log, worker: Worker) -> None:
    log.add(cased("x", 1), b"\xff")
    log.add(cased("y", 1))
    await deliver(worker, driver_of(worker), 0)
    await deliver(worker, driver_of(worker), 0)
    assert len(log.letters()) == 1


async def test_too_many_dead_letters_stop_the_loop_before_the_next(log: Log, worker: Worker) -> None:
    for n in range(6):
        log.add(cased(f"x{n}", 1), b"\xff")
    driver = driver_of(worker, limit=DeadLetterLimit(consecutive=3))
    with pytest.raises(Integrity, match="look at the newest deploy"):
        await deliver(worker, driver, 0)
    assert len(log.letters()) == 3
    assert driver.tracks[P].next == 3, "what stopped it was not taken"


async def test_what_follows_a_dead_letter_does_not_count_for_the_limit(log: Log, worker: Worker) -> None:
    log.add(cased("x", 1), b"\xff")
    for n in range(2, 30):
        log.add(cased("x", n))
    driver = driver_of(worker, limit=DeadLetterLimit(consecutive=3, window=10))
    await deliver(worker, driver, 0)
    assert len(log.letters()) == 29


async def test_a_table_that_cannot_be_read_stops_the_loop_and_buries_nothing(
    log: Log, worker: Worker
) -> None:
    worker.table[b"A"] = b"\x02 not a case"
    with pytest.raises(Integrity, match="cannot read"):
        await driver_of(worker).take(log.add(cased("x", 1)))
    assert log.sent == []


async def test_a_case_topic_shorter_than_its_table_stops_the_loop(log: Log, worker: Worker) -> None:
    for n in (1, 2):
        log.add(cased("x", n))
    await deliver(worker, driver_of(worker), 0)
    log.records.pop()
    with pytest.raises(Integrity, match=r"ends at 1, and the table of loops\.test has taken its record 1"):
        await driver_of(worker).settle(P)


async def test_cases_of_the_first_format_are_read(log: Log, worker: Worker) -> None:
    plain = {"state": {"ids": ["x-1"]}, "seen": {"/svc/production/lot|x": 1}, "recent": {}}
    worker.table[b"A"] = msgspec.msgpack.encode(plain)
    log.add(cased("x", 1))
    log.add(cased("x", 2))
    await deliver(worker, driver_of(worker), 0)
    assert LOOP.load(worker.table[b"A"]).state == Heard(("x-1", "x-2"))


async def test_of_a_parked_source_the_second_format_knew_the_first_letter(log: Log, worker: Worker) -> None:
    log.add(cased("x", 1), b"\xff")
    driver = driver_of(worker)
    await deliver(worker, driver, 0)
    stored = worker.table[b"A"]
    plain = msgspec.msgpack.decode(stored[13:])
    plain["parked"] = {source: f"{TOPIC}/{P}/{first}" for source, (first,) in plain["parked"].items()}
    worker.table[b"A"] = b"\x02" + stored[1:13] + msgspec.msgpack.encode(plain)
    assert LOOP.load(worker.table[b"A"]) == LOOP.load(stored)
    again = driver_of(worker)
    await again.settle(P)
    assert again.parked == 1
    log.add(cased("x", 1), pl_redrive=at(0))
    await deliver(worker, again, 1)
    assert (LOOP.load(worker.table[b"A"]).state, again.parked) == (Heard(("x-1",)), 0)
