"""Entries of an exposure journal, and what of a dispense is new to it.

The journal is append-only. Everybody whom a dispense names at a registered
site enters as a member, and what becomes of a member enters as a disposition
with the next number. A dispense that names nobody, or whose sources
contradict one another, stands beside the members as unattributed until a
record or a person explains it. What an earlier sealed journal of the same
root took is not taken again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from services.traceability.domain.dispense import REINSTATED, Dispense, Patient

MEMBER = "MEMBER"
UNATTRIBUTED = "UNATTRIBUTED"


@dataclass(frozen=True)
class Entry:
    """One entry. Of a member, `disposition` is what was last told to have become of it, as its
    `number`-th. An unattributed one is `open_in` its run until a record names its patient, and
    may be `explained` by a person before."""

    run: str
    kind: str
    dispense: str
    lot: str
    site: str
    pseudonym: str
    at: str
    open_in: str = ""
    explained: bool = False
    disposition: str = ""
    number: int = 0

    @property
    def open(self) -> bool:
        return bool(self.open_in)


class Held(NamedTuple):
    """What the journals hold of a dispense: the run's own, then the earlier ones of its root."""

    members: Mapping[Patient, Entry]
    unattributed: Entry | None
    taken: Collection[Patient]
    unattributed_before: bool


class News(NamedTuple):
    """What of a dispense is new: members, what became of members, and how many unattributed
    and explained ones there are more (1) or less (-1)."""

    members: tuple[Patient, ...]
    dispositions: tuple[tuple[Patient, str], ...]
    unattributed: int
    explained: int

    @property
    def grows(self) -> bool:
        """Does the journal lack somebody?"""
        return bool(self.members) or self.unattributed > 0


def entry_id(run: str, dispense: str, key: str) -> str:
    return f"{run}|{dispense}|{key}"


def member_key(patient: Patient) -> str:
    return f"{MEMBER}|{patient.site}|{patient.pseudonym}"


def _placed(dispense: Dispense, sites: Collection[str]) -> tuple[Patient, ...]:
    return tuple(patient for patient in dispense.patients if patient.site in sites)


def unexplained(dispense: Dispense, sites: Collection[str]) -> bool:
    """May somebody have received it whom nobody names?"""
    if dispense.void:
        return False
    named = any(dispense.received_by(patient) for patient in _placed(dispense, sites))
    return dispense.disputed or not named


def keys_asked(dispense: Dispense, sites: Collection[str], counted: bool) -> tuple[str, ...]:
    """The keys of the entries that decide what is new; `counted`: the journal holds unattributed ones."""
    members = tuple(member_key(patient) for patient in _placed(dispense, sites))
    return members + (UNATTRIBUTED,) * (counted or unexplained(dispense, sites))


def news_of(dispense: Dispense, sites: Collection[str], held: Held) -> News:
    """What of the dispense a run's journal has to take. `held` has at least the entries asked for."""
    placed = _placed(dispense, sites)
    fresh = tuple(p for p in placed if p not in held.members and p not in held.taken)
    listed = [patient for patient in placed if patient in held.members or patient in fresh]
    changes = [(patient, _disposition_news(dispense, patient, held)) for patient in listed]
    unattributed, explained = _unattributed_news(unexplained(dispense, sites), held)
    return News(fresh, tuple((p, told) for p, told in changes if told), unattributed, explained)


def _disposition_news(dispense: Dispense, patient: Patient, held: Held) -> str:
    """What is to be told to have become of the member; empty when nothing new."""
    entry = held.members.get(patient)
    told = entry.disposition if entry else ""
    now = dispense.disposition(patient)
    if now == told or (not now and told == REINSTATED):
        return ""
    return now or REINSTATED


def _unattributed_news(unexplained: bool, held: Held) -> tuple[int, int]:
    entry = held.unattributed
    if entry is not None and entry.open:
        if unexplained:
            return 0, 0
        return (0, -1) if entry.explained else (-1, 0)
    return int(unexplained and not held.unattributed_before), 0


def entry_of(run: str, kind: str, dispense: Dispense, lot: str, patient: Patient) -> Entry:
    """The entry of a dispense in a run's journal."""
    return Entry(
        run=run,
        kind=kind,
        dispense=dispense.dispense,
        lot=lot,
        site=patient.site,
        pseudonym=patient.pseudonym,
        at=dispense.at,
    )
