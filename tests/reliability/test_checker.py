"""The checks themselves: what is planted is found, and what is only repeated is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from pharmaloop.production.v1 import events_pb2 as production
from services.kit.bus.protocol import Partition
from services.kit.envelope import Event
from services.kit.ids import derived_id
from tests.reliability.asking import ACTOR, Acknowledged
from tests.reliability.export import Doc, export
from tests.reliability.invariants import Facts, broken
from tests.reliability.specs import SPECS, runners

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TOPIC, LOT = "pharmaloop.production.lot.v1", "maker/item/tablet/1"
PLACE = Partition(TOPIC, 0)


def told(seq: int, offset: int, id: str = "", **changes: Any) -> Event:
    """A version of the lot, at a place of its topic."""
    made = Event(
        id=id or f"e{seq}",
        source="/svc/production/lot",
        subject=LOT,
        time=NOON,
        message=production.LotHeld(lot=LOT, reason=f"reason {seq}"),
        key=LOT,
        seq=seq,
        topic=TOPIC,
        partition=0,
        offset=offset,
    )
    return made._replace(**changes)


def lot(version: int) -> Doc:
    return {
        "_id": LOT,
        "v": version,
        "s": {"lot": LOT, "state": "held", "started": "2026-03-02T12:00:31+00:00"},
    }


def answer() -> Doc:
    return {"_id": derived_id("request", ACTOR, "HoldLot", "r1"), "v": 1, "s": {}}


def facts(*events: Event, version: int = 3, **changes: object) -> Facts:
    """A platform at rest that holds one lot with three versions."""
    published = list(events) or [told(1, 0), told(2, 1), told(3, 2)]
    databases = {name: {"_outbox": [], "_answer": [answer()]} for name in SPECS}
    databases["production"]["lot"] = [lot(version)]
    ends = {PLACE: max(event.offset for event in published) + 1}
    marks = {(runner, PLACE): ends[PLACE] for runner, topics in runners().items() if TOPIC in topics}
    done = Acknowledged("HoldLot", "r1", ("e3",), expects=(("production", "lot", LOT),))
    return replace(Facts(databases, published, ends, marks, [done]), **changes)  # type: ignore[arg-type]


def test_a_platform_that_is_well_breaks_no_rule() -> None:
    assert broken(facts()) == []


def test_what_is_repeated_as_it_was_breaks_no_rule() -> None:
    assert broken(facts(told(1, 0), told(2, 1), told(1, 2), told(2, 3), told(3, 4), told(3, 5))) == []


def outbox(**changes: object) -> Doc:
    row = {"_id": "e3", "agg": f"lot/{LOT}", "open": False, "topic_at": TOPIC, "partition": 0, "offset": 2}
    return {**row, **changes}


def with_outbox(row: Doc) -> Facts:
    made = facts()
    return replace(
        made,
        databases={
            **made.databases,
            "production": {"lot": [lot(3)], "_outbox": [row], "_answer": [answer()]},
        },
    )


PLANTED: dict[str, tuple[Callable[[], Facts], str]] = {
    "a lost event": (lambda: facts(told(1, 0), told(3, 2)), "have a gap"),
    "the last event lost": (lambda: facts(told(1, 0), told(2, 1)), "stored at version 3, published up to 2"),
    "an acknowledged event lost": (lambda: facts(told(1, 0), told(2, 1)), "HoldLot r1: event e3 is lost"),
    "an acknowledged fact lost": (
        lambda: facts(
            acknowledged=[Acknowledged("RecordDispense", "f1", facts=1, positions=((TOPIC, 0, 9),))]
        ),
        "the log ends before",
    ),
    "an acknowledged effect lost": (
        lambda: facts(
            acknowledged=[Acknowledged("RecordDispense", "f1", expects=(("clinical", "plan", "p"),))]
        ),
        "no ('clinical', 'plan', 'p') in the database",
    ),
    "a lost answer": (
        lambda: facts(acknowledged=[Acknowledged("HoldLot", "r2", ("e3",))]),
        "HoldLot r2: its answer is not stored",
    ),
    "an effect twice": (
        lambda: facts(told(1, 0), told(2, 1), told(3, 2), told(3, 3, "other")),
        "version 3 is 2 events",
    ),
    "an effect twice, as a new version": (
        lambda: facts(told(1, 0), told(2, 1), told(3, 2), told(4, 3, "e3"), version=4),
        "event e3 has two places",
    ),
    "an effect twice, not published": (lambda: facts(version=4), "stored at version 4, published up to 3"),
    "two contents": (
        lambda: facts(*facts().events, told(3, 3, message=production.LotHeld(lot=LOT, reason="other"))),
        "with two contents",
    ),
    "another order": (
        lambda: facts(told(1, 0), told(3, 1), told(2, 2)),
        "version 2 came first after version 3",
    ),
    "a record not folded": (
        lambda: facts(marks={key: 2 for key in facts().marks}),
        "production.lists: pharmaloop.production.lot.v1/0 is folded up to 2 of 3",
    ),
    "a watermark past the end": (lambda: facts(marks={key: 4 for key in facts().marks}), "is past the end"),
    "an event never published": (lambda: with_outbox(outbox(open=True)), "wait in the outbox"),
    "a wrong position": (lambda: with_outbox(outbox(offset=1)), "does not stand at"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found(name: str) -> None:
    made, sentence = PLANTED[name]
    assert any(sentence in found for found in broken(made())), broken(made())


# -- the export -----------------------------------------------------------------


def exported(facts: Facts, *, moments: bool = True) -> str:
    return export(facts.databases, facts.events, moments=moments).text


def test_repeats_order_and_seconds_leave_no_trace_in_the_export() -> None:
    again = facts(told(1, 0), told(1, 1), told(2, 2), told(3, 3), told(2, 4))
    assert exported(again) == exported(facts())
    later = [event._replace(time=NOON.replace(second=59)) for event in facts().events]
    assert exported(facts(*later)) == exported(facts())


@pytest.mark.parametrize(
    "other",
    [
        facts(told(1, 0), told(2, 1)),
        facts(told(1, 0), told(2, 1), told(3, 2, message=production.LotHeld(lot=LOT, reason="other"))),
        facts(told(1, 0), told(2, 1), told(3, 2, time=NOON.replace(minute=1))),
    ],
)
def test_every_other_difference_shows(other: Facts) -> None:
    one, two = (export(f.databases, f.events) for f in (facts(), other))
    assert one.digest != two.digest
    assert TOPIC in one.difference(two) or "production.lot" in one.difference(two)


def test_a_copy_that_is_read_first_hides_nothing() -> None:
    copies = [event._replace(topic="pharmaloop.loops.case.v1") for event in facts().events]
    assert exported(facts(*copies, *facts().events)) == exported(facts())


def test_moments_can_be_left_out() -> None:
    later = facts(*[event._replace(time=NOON.replace(hour=13)) for event in facts().events])
    assert exported(later, moments=False) == exported(facts(), moments=False)


def test_another_version_of_an_aggregate_shows() -> None:
    one, two = (exported(facts(databases={"production": {"equipment": [lot(v)]}})) for v in (3, 4))
    assert one != two
