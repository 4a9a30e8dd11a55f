"""One dispense as the two sources tell it: the journals of runs, and the hospital's own record.

Both name it by the same id, so comparing them is looking whether both halves
are there. Either half may come first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as traceability

EntryName = Literal["MEMBER", "DISPOSITION"]
MEMBER: EntryName = "MEMBER"
DISPOSITION: EntryName = "DISPOSITION"


@dataclass(frozen=True)
class Member:
    """What the journals say of the dispense. `at` is ISO, UTC."""

    pseudonym: str
    lot: str
    at: str


@dataclass(frozen=True)
class OwnRecord:
    """What the hospital's own record says of it."""

    pseudonym: str
    lot: str
    order: str
    at: str
    offset_minutes: int
    quantity: float
    unit: str


@dataclass(frozen=True)
class Dispense:
    """A dispense. `entries` are "run|kind" for every journal entry about it;
    `lots` its lot, twice only where the two sources contradict each other;
    `reported`: the site has told the trace of it."""

    dispense: str
    lots: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    member: Member | None = None
    own: OwnRecord | None = None
    reported: bool = False


def entry_name(kind: int) -> EntryName | None:
    """The name of an entry's kind as the digest uses it; None for a kind of a later contract."""
    names: dict[int, EntryName] = {
        traceability.ENTRY_KIND_MEMBER: MEMBER,
        traceability.ENTRY_KIND_DISPOSITION: DISPOSITION,
    }
    return names.get(kind)


def entry_key(run: str, kind: EntryName) -> str:
    return f"{run}|{kind}"


def in_journal(dispense: Dispense, run: str) -> bool:
    return entry_key(run, MEMBER) in dispense.entries


def entered(
    dispense: Dispense, entry: traceability.ExposureEntered, kind: EntryName, at: str
) -> Dispense | None:
    """The dispense with a journal's entry; None when the entry is there already."""
    key = entry_key(entry.run, kind)
    if key in dispense.entries:
        return None
    return replace(
        dispense,
        lots=_with(dispense.lots, entry.lot),
        entries=_with(dispense.entries, key),
        member=dispense.member or Member(entry.pseudonym, entry.lot, at),
    )


def recorded(dispense: Dispense, record: clinical.MedicationRecorded, at: str) -> Dispense | None:
    """The dispense with the hospital's own record; None when it has one."""
    if dispense.own is not None:
        return None
    own = OwnRecord(
        pseudonym=record.pseudonym,
        lot=record.lot,
        order=record.order,
        at=at,
        offset_minutes=record.at.offset_minutes,
        quantity=record.quantity.value,
        unit=record.quantity.unit,
    )
    return replace(dispense, lots=_with(dispense.lots, record.lot), own=own)


def reported(dispense: Dispense) -> Dispense:
    """The site has told the trace of it."""
    return replace(dispense, reported=True)


def runs_with(dispense: Dispense) -> list[str]:
    """The runs whose journal has the dispense as a member."""
    pairs = (entry.rsplit("|", 1) for entry in dispense.entries)
    return [run for run, kind in pairs if kind == MEMBER]


def received_by(dispense: Dispense, lot: str) -> set[str]:
    """Pseudonyms of those who received the lot by this dispense, by either source."""
    return {half.pseudonym for half in (dispense.member, dispense.own) if half and half.lot == lot}


def fact(dispense: Dispense, own: OwnRecord, site: str, at: Timestamp) -> traceability.DispenseRecorded:
    """The fact that the site tells the trace, because no journal knows it."""
    recorded = traceability.DispenseRecorded(
        dispense=dispense.dispense,
        lot=own.lot,
        site=site,
        pseudonym=own.pseudonym,
        at=common.Moment(at=at, offset_minutes=own.offset_minutes),
        source=site,
        order=own.order,
    )
    if own.unit or own.quantity:
        recorded.quantity.CopyFrom(common.Quantity(value=own.quantity, unit=own.unit))
    return recorded


def _with(items: tuple[str, ...], item: str) -> tuple[str, ...]:
    return items if item in items else tuple(sorted((*items, item)))
