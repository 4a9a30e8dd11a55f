"""Dead letters: nothing is lost, nothing overtakes, and a bad deploy does not drain a topic."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pharmaloop.production.v1 import events_pb2 as production
from services.kit.bus.protocol import Record
from services.kit.envelope import Event, headers_of
from services.kit.errors import Integrity, Invalid, Poison, Rejected, Unknown
from services.kit.metrics import DEAD_LETTERS
from services.kit.runners.letters import LETTERS
from services.kit.runners.limit import DeadLetterLimit, TooManyLetters
from services.kit.runners.reactor import Events
from services.kit.work import Work
from tests.unit.kit.support import (
    DLQ,
    LOT,
    LOT_TOPIC,
    NOTE,
    READINGS_TOPIC,
    Bench,
    Note,
    Turner,
    headers,
    lot_event,
    note_lot,
    started,
)

A, B = "m/item/G/a", "m/item/G/b"


def picky(work: Work, event: Event) -> None:
    """Puts a state and an event first, and then finds that it cannot go on."""
    note_lot(work, event)
    if event.run == "refused":
        raise Rejected("ODD_LOT", "this lot is odd", "lot")


EVENTS: Events = {production.LotStarted: picky}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def letters(bench: Bench, topic: str = DLQ) -> list[Record]:
    """The dead letters, once the relay has published them."""

    async def publish() -> None:
        await bench.relay().publish_once()

    asyncio.run(publish())
    return bench.bus.all(topic)


def heard(bench: Bench) -> dict[str, str]:
    return {id: note.text for id, note in bench.states(NOTE).items()}


def test_a_letter_has_the_original_and_the_reason(bench: Bench) -> None:
    event = lot_event(A, 1, run="refused", case="c", actor="person:ann")
    (at,) = bench.send(event)
    turner = bench.turner(EVENTS)
    turner.turn()
    (letter,) = letters(bench)
    (original,) = bench.bus.records[(at.topic, at.partition)]  # type: ignore[index]
    assert (letter.key, letter.value) == (original.key, original.value)
    assert letter.headers[: len(original.headers)] == original.headers
    added = dict(letter.headers[len(original.headers) :])
    assert added == {
        "dlq_reason": b"ODD_LOT",
        "dlq_description": b"this lot is odd",
        "dlq_runner": b"rnd.test",
        "dlq_topic": LOT_TOPIC.encode(),
        "dlq_partition": str(at.partition).encode(),
        "dlq_offset": b"0",
    }
    assert (turner.runner.status.dead_letters, turner.runner.status.parked) == (1, 1)
    labels = {"service": "rnd", "runner": "rnd.test", "reason": "ODD_LOT"}
    assert bench.metrics.registry.get_sample_value(DEAD_LETTERS.name, labels) == 1


def test_what_a_failed_handler_did_is_undone_and_its_neighbours_stand(bench: Bench) -> None:
    bench.send(lot_event(A, 1), lot_event(B, 1, run="refused"))
    bench.turner(EVENTS).turn()
    assert heard(bench) == {A: f"{A}-1"}
    assert set(bench.states(LOT)) == {A}
    topics = sorted(row.topic for row in bench.database.outbox.values())
    assert topics == [DLQ, "pharmaloop.rnd.insight.v1"], "the failed handler's event went out"


def test_later_records_of_a_parked_key_follow_in_order_and_other_keys_go_on(bench: Bench) -> None:
    turner = bench.turner(EVENTS)
    bench.send(lot_event(A, 1), lot_event(A, 2, run="refused"), lot_event(A, 3), lot_event(B, 1))
    turner.turn()
    bench.send(lot_event(A, 4), lot_event(B, 2))
    turner.turn()
    assert heard(bench) == {A: f"{A}-1", B: f"{B}-1 {B}-2"}
    told = [headers(letter) for letter in letters(bench)]
    assert [(one["pl_seq"], one["dlq_reason"]) for one in told] == [
        ("2", "ODD_LOT"),
        ("3", "PARKED"),
        ("4", "PARKED"),
    ]
    assert turner.runner.status.parked == 1, "one key, however many letters"


def test_a_key_stays_parked_after_a_restart(bench: Bench) -> None:
    bench.send(lot_event(A, 1, run="refused"))
    bench.turner(EVENTS).turn()
    bench.send(lot_event(A, 2), lot_event(B, 1))
    bench.turner(EVENTS).turn()
    assert heard(bench) == {B: f"{B}-1"}


def test_a_key_is_parked_for_whoever_gets_its_partition(bench: Bench) -> None:
    # Two workers: one dead-letters, then its partition moves to the other, which started before.
    other = bench.turner(EVENTS)
    bench.send(lot_event(A, 1, run="refused"))
    bench.turner(EVENTS).turn()
    other.consumer.subscribe(other.runner.topics, other.runner._start_at, other.runner._lost)
    bench.send(lot_event(A, 2))
    other.turn()
    assert heard(bench) == {}, "an event overtook the one before it"


def test_each_runner_parks_for_itself(bench: Bench) -> None:
    bench.send(lot_event(A, 1, run="refused"), lot_event(A, 2))
    bench.turner(EVENTS).turn()
    bench.turner({production.LotStarted: note_lot}, name="other").turn()
    assert heard(bench) == {A: f"{A}-1 {A}-2"}


def test_a_fact_parks_nothing(bench: Bench) -> None:
    bench.send(lot_event(A, None, run="refused"), lot_event(A, None, id="next"))
    turner = bench.turner(EVENTS)
    turner.turn()
    assert heard(bench) == {A: "next"}
    assert turner.runner.status.parked == 0


GOOD = dict(headers_of(lot_event(A, 1)))
BODY = started(A).SerializeToString()
BAD: dict[str, tuple[bytes | None, dict[str, bytes], str]] = {
    "no protobuf": (b"\xff\xff\xff", GOOD, "UNDECODABLE"),
    "truncated": (BODY[:-1], GOOD, "UNDECODABLE"),
    "no value": (None, GOOD, "UNDECODABLE"),
    "unknown type": (BODY, {**GOOD, "ce_type": b"pharmaloop.production.v1.LotVanished"}, "UNKNOWN_TYPE"),
    "no type": (BODY, {k: v for k, v in GOOD.items() if k != "ce_type"}, "NO_HEADER"),
    "no headers": (BODY, {}, "NO_HEADER"),
    "bad version": (BODY, {**GOOD, "pl_seq": b"9" * 40}, "BAD_HEADER"),
    "bad time": (BODY, {**GOOD, "ce_time": b"noon"}, "BAD_HEADER"),
    "bad text": (BODY, {**GOOD, "ce_id": b"\xff"}, "BAD_HEADER"),
}


@pytest.mark.parametrize(("value", "told", "reason"), BAD.values(), ids=BAD)
def test_a_broken_record_is_dead_lettered_and_the_next_ones_go_on(
    bench: Bench, value: bytes | None, told: dict[str, bytes], reason: str
) -> None:
    bench.send_raw(A, value, tuple(told.items()))
    bench.send(lot_event(B, 1))
    turner = bench.turner(EVENTS)
    turner.turn()
    (letter,) = letters(bench)
    assert headers_as_bytes(letter)["dlq_reason"] == reason.encode()
    assert letter.value == (value or b"")
    assert headers_as_bytes(letter).items() >= told.items()
    assert heard(bench) == {B: f"{B}-1"}
    assert bench.marks() == 2
    assert turner.turn() == 0


def headers_as_bytes(record: Record) -> dict[str, bytes]:
    return dict(record.headers)


def test_a_fault_in_a_handler_is_a_dead_letter_too(bench: Bench) -> None:
    def faulty(work: Work, event: Event) -> None:
        if event.subject == A:
            raise KeyError("a bug" + "!" * 3_000_000)
        note_lot(work, event)

    bench.send(lot_event(A, 1), lot_event(B, 1))
    bench.turner({production.LotStarted: faulty}).turn()
    (letter,) = letters(bench)
    assert headers(letter)["dlq_reason"] == "HANDLER_FAILED"
    assert "a bug" in headers(letter)["dlq_description"]
    assert len(headers(letter)["dlq_description"]) < 5000, "a letter has to fit into its topic"
    assert heard(bench) == {B: f"{B}-1"}


@pytest.mark.parametrize("error", [Invalid, Unknown, Rejected, Poison])
def test_every_refusal_of_a_handler_is_a_dead_letter_with_its_reason(bench: Bench, error: Any) -> None:
    def refuse(work: Work, event: Event) -> None:
        raise error("SOME_REASON", "why")

    bench.send(lot_event(A, 1))
    bench.turner({production.LotStarted: refuse}).turn()
    assert headers(letters(bench)[0])["dlq_reason"] == "SOME_REASON"


def test_an_integrity_failure_stops_the_runner_and_dead_letters_nothing(bench: Bench) -> None:
    def alarmed(work: Work, event: Event) -> None:
        work.put(NOTE, A, Note("half"))
        raise Integrity("two states contradict each other")

    bench.send(lot_event(A, 1))
    with pytest.raises(Integrity, match="contradict"):
        bench.turner({production.LotStarted: alarmed}).turn()
    assert not bench.database.outbox
    assert not bench.states(NOTE)
    assert bench.marks() == 0, "after the restart it would be passed over"


def test_letters_are_named_by_their_place_so_that_a_repeat_adds_none(bench: Bench) -> None:
    bench.send(lot_event(A, 1, run="refused"))
    turner = bench.turner(EVENTS)
    turner.turn()
    first = set(bench.database.outbox)
    bench.database.docs["_mark"].clear()  # restored from a backup that is older than the outbox
    bench.turner(EVENTS).turn()
    assert set(bench.database.outbox) == first


# -- the limit --------------------------------------------------------------


def flood(bench: Bench, turner: Turner, good: int, bad: int) -> None:
    bench.send(*(lot_event(f"g{n}", None, key=READINGS_TOPIC) for n in range(good)))
    for n in range(bad):
        bench.send_raw(READINGS_TOPIC, b"\xff", (("n", str(n).encode()),))
    turner.turn()


def test_one_too_many_in_a_row_stops_the_runner_before_it_is_dead_lettered(bench: Bench) -> None:
    turner = bench.turner(EVENTS)
    flood(bench, turner, good=3, bad=100)
    assert turner.runner.status.dead_letters == 100
    before, marks = bench.snapshot(), bench.marks()
    with pytest.raises(Integrity, match="101 in a row"):
        flood(bench, turner, good=0, bad=1)
    assert bench.snapshot() == before
    assert bench.marks() == marks
    with pytest.raises(Integrity):  # a whole bad batch, after a restart
        flood(bench, bench.turner(EVENTS), good=0, bad=100)
    assert bench.marks() == marks


FAILED = "HANDLER_FAILED"


def test_what_is_parked_says_nothing_about_the_deploy() -> None:
    limit = DeadLetterLimit(consecutive=3, ratio=0.5, window=10)
    for _ in range(10):
        limit.check([FAILED, *["PARKED"] * 50, None])
        limit.note([FAILED, *["PARKED"] * 50, None])
    with pytest.raises(Integrity):
        limit.check([FAILED] * 4)


def test_a_good_record_ends_a_row() -> None:
    limit = DeadLetterLimit(consecutive=3, ratio=1.0, window=100)
    for _ in range(5):
        for dead in ([FAILED] * 3, [None]):
            limit.check(dead)
            limit.note(dead)
    with pytest.raises(Integrity):
        limit.check([FAILED] * 4)
    limit.check([FAILED] * 3)  # what was checked and not committed does not count


def test_too_large_a_share_stops_it_once_there_are_enough_to_judge() -> None:
    limit = DeadLetterLimit(consecutive=100, ratio=0.5, window=10)
    limit.check([FAILED, None] * 4 + [FAILED])  # nine are too few to judge
    limit.note([FAILED, None] * 4 + [FAILED])
    limit.check([None])
    with pytest.raises(Integrity, match="6 of the last 10"):
        limit.check([FAILED])


def test_the_thread_stops_and_says_what_to_look_at(bench: Bench) -> None:
    for n in range(130):
        bench.send_raw(A, b"\xff", (("n", str(n).encode()),))
    runner = bench.turner(EVENTS).runner
    runner.start()
    runner.join(10)
    assert runner.status.state == "failed"
    assert "newest deploy" in runner.status.detail
    place = f"{LOT_TOPIC}/{bench.bus.all(LOT_TOPIC)[0].partition}"
    named = ", ".join(f"NO_HEADER at {place}/{offset}" for offset in (100, 101, 102))
    assert f"({named} and 27 more)" in runner.status.detail
    # Those before them are letters, and only those are behind the watermark.
    assert [headers(letter)["n"] for letter in letters(bench)] == [str(n) for n in range(100)]
    assert len(bench.states(LETTERS)) == bench.marks() == 100


def test_what_comes_before_the_letter_too_many_is_done_and_nothing_after_it(bench: Bench) -> None:
    bench.send(lot_event("g1", None, key=READINGS_TOPIC))
    for n in range(101):
        bench.send_raw(READINGS_TOPIC, b"\xff", (("n", str(n).encode()),))
    bench.send(lot_event("g2", None, key=READINGS_TOPIC))
    turner = bench.turner(EVENTS)
    with pytest.raises(TooManyLetters):
        turner.turn()
    assert list(heard(bench)) == ["g1"]
    assert bench.marks() == 101
    assert turner.runner.status.records == 101
    # The code is mended for the record at which it stopped, or the record is no fault of the code.
    for id in bench.states(LETTERS):
        bench.database.docs[LETTERS.name][id]["s"]["state"] = "discarded"
    bench.turner(EVENTS).turn()
    assert list(heard(bench)) == ["g1", "g2"]
    assert len(bench.states(LETTERS)) == bench.marks() - 2 == 101


def test_a_restart_makes_no_more_letters_while_so_many_wait(bench: Bench) -> None:
    turner = bench.turner(EVENTS)
    with pytest.raises(TooManyLetters):
        flood(bench, turner, good=0, bad=130)
    before, marks = bench.snapshot(), bench.marks()
    for _ in range(3):
        with pytest.raises(TooManyLetters):
            bench.turner(EVENTS).turn()
    assert (bench.snapshot(), bench.marks()) == (before, marks)
    # Of those that were settled, as many may come.
    settled = sorted(bench.states(LETTERS))[:7]
    for id in settled:
        bench.database.docs[LETTERS.name][id]["s"]["state"] = "discarded"
    with pytest.raises(TooManyLetters):
        bench.turner(EVENTS).turn()
    assert len(bench.states(LETTERS)) == bench.marks() == 107


def test_old_letters_do_not_stop_a_runner_whose_records_are_good(bench: Bench) -> None:
    flood(bench, bench.turner(EVENTS), good=0, bad=100)
    turner = bench.turner(EVENTS)
    flood(bench, turner, good=1, bad=1)
    assert turner.runner.status.dead_letters == 1


def test_letters_of_others_do_not_count(bench: Bench) -> None:
    with pytest.raises(TooManyLetters):
        flood(bench, bench.turner(EVENTS), good=0, bad=101)
    other = bench.turner(EVENTS, name="other")
    with pytest.raises(TooManyLetters, match="101 in a row"):
        other.turn()
    assert other.runner.status.dead_letters == 100


def test_a_limit_says_how_many_fit_and_names_the_first_that_do_not() -> None:
    limit = DeadLetterLimit(consecutive=2, ratio=0.5, window=10)
    reasons = [None, FAILED, "PARKED", FAILED, FAILED, None, "PARKED", "ODD_LOT"]
    records = [Record("t", 3, at, b"k", b"", (), 0) for at in range(10, 10 + len(reasons))]
    with pytest.raises(TooManyLetters) as caught:
        limit.check(reasons, records)
    assert caught.value.fits == 4
    assert "(HANDLER_FAILED at t/3/14, ODD_LOT at t/3/17)" in str(caught.value)
    limit.check(reasons[:4], records[:4])


def test_what_waits_from_before_counts_until_a_record_is_good() -> None:
    limit = DeadLetterLimit(consecutive=3, ratio=1.0, window=10)
    limit.note([None])
    limit.begin(50)  # they are older than what this process has seen
    limit.check([FAILED] * 3)
    limit = DeadLetterLimit(consecutive=3, ratio=1.0, window=10)
    limit.begin(2)
    with pytest.raises(TooManyLetters) as caught:
        limit.check([FAILED] * 3)
    assert caught.value.fits == 1
    limit.check([None, *[FAILED] * 3])
