"""One dispense as the two sources tell it: the journals of runs, and the hospital's own record.

Both name it by the same id, so comparing them is looking whether both halves
are there and name the same patient. Either half may come first.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as traceability

MEMBER = "MEMBER"
RETURNED_UNOPENED, RETURNED, CORRECTED = "RETURNED_UNOPENED", "RETURNED", "CORRECTED"
REINSTATED = "REINSTATED"
#: What the trace is told of why a record was wrong.
TAKEN_BACK = "the site took its own record back"
_DISPOSITIONS = {
    traceability.DISPOSITION_RETURNED_UNOPENED: RETURNED_UNOPENED,
    traceability.DISPOSITION_RETURNED: RETURNED,
    traceability.DISPOSITION_CORRECTED: CORRECTED,
    traceability.DISPOSITION_REINSTATED: REINSTATED,
}


@dataclass(frozen=True)
class Told:
    """What an entry says became of a member; `late` after the journal was sealed."""

    number: int
    disposition: str
    late: bool

    @property
    def kind(self) -> str:
        """The entry's kind as the digest names it."""
        return f"DISPOSITION/{self.number}/{self.disposition}"


def kind_of(entry: traceability.ExposureEntry) -> str:
    """An entry's kind as the digest names it; empty for one of a later contract."""
    if entry.kind == traceability.ENTRY_KIND_MEMBER:
        return MEMBER
    name = _DISPOSITIONS.get(entry.disposition, "")
    if entry.kind != traceability.ENTRY_KIND_DISPOSITION or not name:
        return ""
    return Told(entry.number, name, False).kind


@dataclass(frozen=True)
class Member:
    """What a run's journal says of the dispense and one patient. `at` is ISO, UTC.

    Not `entered` while only what became of the member is known.
    """

    run: str
    pseudonym: str
    lot: str
    at: str
    entered: bool = False
    possible: bool = False
    told: tuple[Told, ...] = ()

    @property
    def disposition(self) -> str:
        """What became of the member; empty when nothing did, or does not hold any more."""
        newest = self.told[-1].disposition if self.told else ""
        return "" if newest == REINSTATED else newest

    @property
    def void(self) -> bool:
        """Did the patient take nothing of it?"""
        return self.disposition in (RETURNED_UNOPENED, CORRECTED)

    @property
    def sealed_kinds(self) -> list[str]:
        """The kinds of its entries that the digest counts."""
        return [MEMBER] * self.entered + [told.kind for told in self.told if not told.late]


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
    """A dispense. `runs` are those with a member of it; `lots` its lot, twice only where the two
    sources contradict each other; `taken_back`: the hospital took its own record back;
    `reported`: the site has told the trace of it, and `again` so many times since; `explained`: a
    person has said why the own records do not show what the journals do."""

    dispense: str
    lots: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()
    own: OwnRecord | None = None
    taken_back: bool = False
    reported: bool = False
    explained: bool = False
    again: int = 0

    @property
    def standing(self) -> OwnRecord | None:
        """The hospital's own record, unless it took it back."""
        return None if self.taken_back else self.own

    def member(self, run: str, pseudonym: str) -> Member | None:
        return next((m for m in self.members if (m.run, m.pseudonym) == (run, pseudonym)), None)

    def members_of(self, run: str) -> list[Member]:
        return [member for member in self.members if member.run == run and member.entered]


class Compared(NamedTuple):
    """How the two sources of one dispense compare in a run: members that the own records do not
    show, unexplained and explained, and the lot of an own record that a member shows."""

    only_in_trace: int
    explained: int
    shown: str


def compared(dispense: Dispense, run: str) -> Compared:
    """Of one dispense. A member that never received it is no difference when nobody says so here."""
    own, missing, shown = dispense.standing, 0, ""
    for member in dispense.members_of(run):
        if own is not None and own.pseudonym == member.pseudonym:
            shown = own.lot if member.disposition != CORRECTED else ""
        elif not member.void:
            missing += 1
    return Compared(0 if dispense.explained else missing, missing if dispense.explained else 0, shown)


def entered(
    dispense: Dispense, run: str, entry: traceability.ExposureEntry, at: str, late: bool
) -> Dispense | None:
    """The dispense with a journal's entry; None when the entry is there already, or of a later contract."""
    pseudonym = entry.pseudonym
    before = dispense.member(run, pseudonym) or Member(run, pseudonym, entry.lot, at)
    after = _with_entry(before, entry, late)
    if after is None or after == before:
        return None
    others = [member for member in dispense.members if (member.run, member.pseudonym) != (run, pseudonym)]
    return replace(
        dispense,
        lots=_with(dispense.lots, entry.lot),
        runs=_with(dispense.runs, run) if after.entered else dispense.runs,
        members=tuple(sorted((*others, after), key=lambda member: (member.run, member.pseudonym))),
    )


def _with_entry(member: Member, entry: traceability.ExposureEntry, late: bool) -> Member | None:
    kind = kind_of(entry)
    if kind == MEMBER:
        return replace(member, entered=True, possible=entry.possible)
    if not kind or any(known.number == entry.number for known in member.told):
        return None
    told = Told(entry.number, _DISPOSITIONS[entry.disposition], late)
    return replace(member, told=tuple(sorted((*member.told, told), key=lambda known: known.number)))


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


def taken_back(dispense: Dispense) -> Dispense:
    """The hospital took its own record back, before or after this was heard."""
    return replace(dispense, taken_back=True)


def reported(dispense: Dispense) -> Dispense:
    """The site has told the trace of it, once more."""
    return replace(dispense, reported=True, again=dispense.again + dispense.reported)


def may_be_reported(dispense: Dispense) -> Dispense:
    """A journal shows it, and whether the trace has it from here is not known any more."""
    return replace(dispense, reported=True)


def unheard(dispense: Dispense) -> OwnRecord | None:
    """The own record that the trace was told of and that no journal names yet; None when there is none.

    A record may be lost on its way, and where every run of its lot has closed by then no run waits for it.
    """
    own = dispense.standing
    if own is None or not dispense.reported:
        return None
    named = any(m.entered and m.pseudonym == own.pseudonym for m in dispense.members)
    return None if named else own


def explained(dispense: Dispense) -> Dispense:
    """A person of the site said why the own records do not show it."""
    return replace(dispense, explained=True)


def received_by(dispense: Dispense, lot: str) -> set[str]:
    """Pseudonyms of those who received the lot by this dispense, by either source."""
    own = dispense.standing
    found = {own.pseudonym} if own is not None and own.lot == lot else set()
    return found | {m.pseudonym for m in dispense.members if m.lot == lot and m.entered and not m.void}


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


def correction(
    dispense: Dispense, own: OwnRecord, site: str, told: clinical.MedicationCorrected
) -> traceability.DispenseCorrected:
    """The fact by which the site takes back what it told the trace; its own words stay with the site."""
    return traceability.DispenseCorrected(
        dispense=dispense.dispense,
        lot=own.lot,
        reason=TAKEN_BACK,
        at=told.at,
        record=dispense.dispense,
        source=site,
    )


def _with(items: tuple[str, ...], item: str) -> tuple[str, ...]:
    return items if item in items else tuple(sorted((*items, item)))


def unshown(dispense: Dispense, run: str, lots: Collection[str]) -> OwnRecord | None:
    """The own record of one of the lots that the run's journal does not have, or holds to be corrected."""
    own = dispense.standing
    if own is None or own.lot not in lots or compared(dispense, run).shown:
        return None
    return own
