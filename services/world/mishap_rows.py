"""Everything that went wrong beside the faults, as one list of rows."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import timedelta

from services.world.records import Change, Feed, World


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """Something that went wrong, with whom, and how long after the runs began it is heard of."""

    kind: str
    source: str
    subject: str
    lot: str
    late: timedelta | None


def incidents(world: World) -> Iterator[IncidentRow]:
    """Late, missing, repeated, wrong and incomplete records; returns; opened packs; people who changed."""
    for material in world.materials:
        if material.late:
            yield IncidentRow("late material", material.source, material.record, material.lot, material.late)
    for pharmacy in world.pharmacies:
        yield from _of_feed(pharmacy.name, pharmacy.feed)
        for late in pharmacy.found_out:
            found = late.dispense
            yield IncidentRow("patient found out", pharmacy.name, found.dispense, found.lot, late.after)
    yield from _at_the_counter(world)
    for test in world.lot_tests:
        if test.misread is not None:
            yield IncidentRow("laboratory error", "laboratory", test.test, test.lot, None)
    for hospital in world.hospitals:
        yield from _of_feed(hospital.site, hospital.feed)
        known = {subject.pseudonym for subject in hospital.subjects}
        for change in hospital.changes:
            yield IncidentRow(
                _changed(change, known), hospital.site, change.subject.pseudonym, "", change.after
            )


def _of_feed(source: str, feed: Feed) -> Iterator[IncidentRow]:
    for late in feed.late:
        yield IncidentRow("late", source, late.dispense.dispense, late.dispense.lot, late.after)
    for kind, items in (("never recorded", feed.never), ("recorded twice", feed.sent_twice)):
        for item in items:
            yield IncidentRow(kind, source, item.dispense, item.lot, None)
    for correction in feed.corrections:
        wrong = correction.wrong
        yield IncidentRow("wrong lot", source, wrong.dispense, wrong.lot, correction.late)


def _at_the_counter(world: World) -> Iterator[IncidentRow]:
    for returned in world.returns():
        kind = "returned opened" if returned.opened else "returned unopened"
        given = returned.dispense
        yield IncidentRow(kind, given.pharmacy, given.dispense, given.lot, returned.late)
    for one in world.dispenses:
        if one.possible_lots:
            yield IncidentRow("opened packs", one.pharmacy, one.dispense, one.lot, None)
        if not one.pseudonym:
            yield IncidentRow("sold to a stranger", one.pharmacy, one.dispense, one.lot, None)


def _changed(change: Change, known: Set[str]) -> str:
    if change.subject.status != "ACTIVE":
        return change.subject.status.lower()
    return "withdrew" if change.subject.pseudonym in known else "arrived"
