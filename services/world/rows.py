"""A world as flat rows: what happened and what was recorded of it, nothing of what was planted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.world.entities import (
    Dispense,
    LotTest,
    Material,
    Notice,
    Observation,
    Shipment,
    Subject,
)
from services.world.records import Feed, World
from services.world.tables import table


@dataclass(frozen=True, slots=True)
class RunRow:
    """A process run; `run` is the number of the real one, or of the batch in its campaign."""

    lot: str
    process: str
    product: str
    equipment: str
    run: int
    samples: int
    started: datetime
    completed: datetime
    live: bool


@dataclass(frozen=True, slots=True)
class SubjectRow:
    """A patient as a hospital recorded them; `late` after the runs began, if it was."""

    site: str
    pseudonym: str
    consent: bool
    age: int
    sex: str
    arm: str
    at: datetime
    status: str
    moved_to: str
    late: timedelta | None


@dataclass(frozen=True, slots=True)
class RecordRow:
    """A record of a dispense by its source; `how`: "on time", "twice", "late", "found out", "on paper"."""

    source: str
    how: str
    dispense: str
    order: str
    lot: str
    possible_lots: tuple[str, ...]
    site: str
    pseudonym: str
    at: datetime
    amount: int
    unit: str
    late: timedelta | None


@dataclass(frozen=True, slots=True)
class ReturnRow:
    """A pack that came back."""

    record: str
    pharmacy: str
    dispense: str
    lot: str
    opened: bool
    at: datetime
    late: timedelta | None


@dataclass(frozen=True, slots=True)
class CorrectionRow:
    """A record that its source took back, and the one that is right."""

    record: str
    source: str
    wrong: str
    wrong_lot: str
    right: str
    right_lot: str
    reason: str
    at: datetime
    late: timedelta | None


def world_tables(world: World) -> dict[str, Any]:
    """By name, as pyarrow.Table."""
    return {
        "runs": table(RunRow, _runs(world)),
        "materials": table(Material, world.materials),
        "shipments": table(Shipment, world.shipments),
        "subjects": table(SubjectRow, _subjects(world)),
        "records": table(RecordRow, records(world)),
        "returns": table(ReturnRow, _returns(world)),
        "corrections": table(CorrectionRow, _corrections(world)),
        "observations": table(Observation, world.observations),
        "lot_tests": table(LotTest, world.lot_tests),
        "notices": table(Notice, world.notices),
    }


def _runs(world: World) -> Iterator[RunRow]:
    for line in world.lines:
        for lot in line.lots:
            yield RunRow(
                lot.lot,
                line.process,
                line.product,
                lot.equipment,
                lot.run,
                lot.samples,
                lot.started,
                lot.completed,
                lot.live,
            )


def _subjects(world: World) -> Iterator[SubjectRow]:
    for hospital in world.hospitals:
        for subject in hospital.subjects:
            yield _subject(hospital.site, subject, None)
        for change in hospital.changes:
            yield _subject(hospital.site, change.subject, change.after)


def _subject(site: str, one: Subject, late: timedelta | None) -> SubjectRow:
    return SubjectRow(
        site,
        one.pseudonym,
        one.consent,
        one.age,
        one.sex,
        one.arm,
        one.at,
        one.status,
        one.moved_to,
        late,
    )


def records(world: World) -> Iterator[RecordRow]:
    """Every record of a dispense, of every source."""
    for pharmacy in world.pharmacies:
        yield from _of_feed(pharmacy.name, pharmacy.feed)
        for late in pharmacy.found_out:
            yield _record(pharmacy.name, "found out", late.dispense, late.after)
    for hospital in world.hospitals:
        yield from _of_feed(hospital.site, hospital.feed)


def _of_feed(source: str, feed: Feed) -> Iterator[RecordRow]:
    for how, items in (("on time", feed.on_time), ("twice", feed.sent_twice), ("on paper", feed.never)):
        for item in items:
            yield _record(source, how, item, None)
    for late in feed.late:
        yield _record(source, "late", late.dispense, late.after)
    for correction in feed.corrections:
        yield _record(source, "late" if correction.late else "on time", correction.right, correction.late)


def _record(source: str, how: str, one: Dispense, late: timedelta | None) -> RecordRow:
    return RecordRow(
        source,
        how,
        one.dispense,
        one.order,
        one.lot,
        one.possible_lots,
        one.site,
        one.pseudonym,
        one.at,
        one.amount,
        one.unit,
        late,
    )


def _returns(world: World) -> Iterator[ReturnRow]:
    for item in world.returns():
        given = item.dispense
        yield ReturnRow(
            item.record, given.pharmacy, given.dispense, given.lot, item.opened, item.at, item.late
        )


def _corrections(world: World) -> Iterator[CorrectionRow]:
    for source, item in world.corrections():
        wrong, right = item.wrong, item.right
        yield CorrectionRow(
            item.record,
            source,
            wrong.dispense,
            wrong.lot,
            right.dispense,
            right.lot,
            item.reason,
            item.at,
            item.late,
        )
