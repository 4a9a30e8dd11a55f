"""A dispense, as its sources claim it, and what became of it.

Every claim, return and correction is kept; what the platform believes is
computed from all of them, so that order and repetition leave no trace.
Where sources contradict one another, everybody whom one of them names is
listed, and the dispense is disputed: a person has to look.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from math import fsum
from typing import NamedTuple

from pharmaloop.traceability.v1 import events_pb2 as events
from services.traceability.domain.moments import earliest, when

OLDER_THAN_LOT = "OLDER_THAN_LOT"
CONFLICT = "CONFLICT"
#: What became of a patient's share in a dispense; "" is nothing.
RETURNED_UNOPENED, RETURNED, CORRECTED = "RETURNED_UNOPENED", "RETURNED", "CORRECTED"
REINSTATED = "REINSTATED"
#: Amounts that differ by less are equal.
_ROUNDING = 1e-9


class Patient(NamedTuple):
    """Somebody whom a claim names."""

    site: str
    pseudonym: str


@dataclass(frozen=True, order=True)
class Claim:
    """What one record says; `possible` are the lots that it may be from instead, `amount` of `unit`
    (UCUM) how much it was, where the record says."""

    source: str
    lot: str
    site: str
    pseudonym: str
    at: str
    possible: tuple[str, ...] = ()
    amount: float = 0.0
    unit: str = ""

    @property
    def lots(self) -> set[str]:
        return {self.lot, *self.possible}

    @property
    def names(self) -> Patient | None:
        return Patient(self.site, self.pseudonym) if self.site and self.pseudonym else None


@dataclass(frozen=True, order=True)
class Return:
    """One record that the pack came back, or so much of it."""

    source: str
    record: str
    lot: str
    unopened: bool
    amount: float = 0.0
    unit: str = ""


@dataclass(frozen=True)
class Dispense:
    """A dispense by its id. It has several lots where its packs were mixed or its sources
    contradict one another; `waiting` are sites that it names and that nobody has registered;
    `taken_back` are the sources that corrected what they claimed."""

    dispense: str
    lots: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    returns: tuple[Return, ...] = ()
    taken_back: tuple[str, ...] = ()
    suspects: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()

    @property
    def at(self) -> str:
        """When it was dispensed: the earliest moment that a record gives."""
        return earliest(*(claim.at for claim in self.claims))

    @property
    def sources(self) -> tuple[str, ...]:
        told = {claim.source for claim in self.claims} | {item.source for item in self.returns}
        return tuple(sorted(told))

    @property
    def standing(self) -> tuple[Claim, ...]:
        """The claims whose sources still make them."""
        return tuple(claim for claim in self.claims if claim.source not in self.taken_back)

    @property
    def disputed(self) -> bool:
        return CONFLICT in self.suspects

    @property
    def unopened(self) -> bool:
        """Did all of it come back unopened, by everybody who tells of its return?"""
        return bool(self.returns) and all(item.unopened for item in self.returns) and not self._lacking

    @property
    def _lacking(self) -> bool:
        """Does a source tell of less than was dispensed? Of two packs one may come back."""
        given = {claim.unit: 0.0 for claim in self.standing if claim.unit}
        for claim in self.standing:
            if claim.unit:
                given[claim.unit] = max(given[claim.unit], claim.amount)
        return any(_less(self.returns, source, given) for source in {item.source for item in self.returns})

    @property
    def patients(self) -> tuple[Patient, ...]:
        """Everybody whom a claim names, now or ever, or the claims name together."""
        whole = {claim.names for claim in self.claims} - {None}
        if not whole:
            whole = {_together(self.claims)} - {None}
        return tuple(sorted(patient for patient in whole if patient))

    def received_by(self, patient: Patient) -> bool:
        """Does a source that stands by its record say so?"""
        standing = self.standing
        return any(claim.names == patient for claim in standing) or _together(standing) == patient

    def disposition(self, patient: Patient) -> str:
        """What became of the patient's share in it; empty when nothing did."""
        if not self.received_by(patient):
            return CORRECTED
        if self.unopened:
            return RETURNED_UNOPENED
        return RETURNED if self.returns else ""

    @property
    def void(self) -> bool:
        """Can nobody have taken anything of it, whoever it went to?"""
        told_of = bool(self.standing) or (bool(self.returns) and not self.claims)
        return not told_of or self.unopened


def _less(returns: Iterable[Return], source: str, given: Mapping[str, float]) -> bool:
    """Does what a source says came back fall short of what was given, by unit? A return without an
    amount says that all of it did; one in a unit that nobody dispensed in cannot say so."""
    mine = [item for item in returns if item.source == source]
    if not given or any(not item.unit for item in mine):
        return False
    came = {unit: fsum(item.amount for item in mine if item.unit == unit) for unit in {i.unit for i in mine}}
    known = given.keys() & came.keys()
    return not known or any(came[unit] < given[unit] * (1 - _ROUNDING) for unit in known)


def _together(claims: Iterable[Claim]) -> Patient | None:
    """The patient whom records name together: one gives the site, another the pseudonym."""
    told = list(claims)
    site = earliest(*(claim.site for claim in told))
    pseudonym = earliest(*(claim.pseudonym for claim in told))
    return Patient(site, pseudonym) if site and pseudonym else None


def claim_of(record: events.DispenseRecorded) -> Claim:
    """What the record claims."""
    others = tuple(sorted(set(record.possible_lots) - {record.lot}))
    much = record.quantity
    return Claim(
        record.source,
        record.lot,
        record.site,
        record.pseudonym,
        when(record.at),
        others,
        much.value,
        much.unit,
    )


def return_of(record: events.ReturnRecorded) -> Return:
    """What the record says; a state that is not known reads as opened, for the patient's safety."""
    unopened = record.state == events.RETURN_STATE_UNOPENED
    return Return(
        record.source, record.record, record.lot, unopened, record.quantity.value, record.quantity.unit
    )


def claimed(before: Dispense | None, dispense: str, claim: Claim) -> Dispense:
    """The dispense with one more claim; the same when it was made before."""
    found = before or Dispense(dispense)
    return _believed(replace(found, claims=tuple(sorted({*found.claims, claim}))))


def returned(before: Dispense | None, dispense: str, item: Return) -> Dispense:
    """The dispense with one more return. One that nobody told of is a dispense all the same."""
    found = before or Dispense(dispense)
    return _believed(replace(found, returns=tuple(sorted({*found.returns, item}))))


def corrected(before: Dispense | None, dispense: str, source: str) -> Dispense:
    """The dispense after a source took back what it claims, before or after this was heard."""
    found = before or Dispense(dispense)
    return _believed(replace(found, taken_back=tuple(sorted({*found.taken_back, source}))))


def _believed(dispense: Dispense) -> Dispense:
    """What the records say together."""
    lots = {lot for claim in dispense.claims for lot in claim.lots} | {item.lot for item in dispense.returns}
    kept = set(dispense.suspects) - {CONFLICT}
    disputed = {CONFLICT} if _contradict(dispense) else set()
    return replace(dispense, lots=tuple(sorted(lots)), suspects=tuple(sorted(kept | disputed)))


def _contradict(dispense: Dispense) -> bool:
    """Do the records that stand fit together?"""
    standing = dispense.standing
    told = [claim.lots for claim in standing]
    if standing or not dispense.claims:
        told += [{item.lot} for item in dispense.returns]
    if told and not reduce(set.__and__, told):
        return True
    sites = {claim.site for claim in standing if claim.site}
    return len(sites) > 1 or len({claim.pseudonym for claim in standing if claim.pseudonym}) > 1


def placed(dispense: Dispense, sites: Collection[str]) -> Dispense:
    """The dispense, waiting for the sites that it names and that do not take part yet."""
    unknown = {claim.site for claim in dispense.claims if claim.site} - set(sites)
    return replace(dispense, waiting=tuple(sorted(unknown)))


def aged(dispense: Dispense, made: Mapping[str, str]) -> Dispense:
    """Flag a dispense that is older than its lot; `made` gives the lots' making, where known."""
    older = any(dispense.at < made.get(lot, "") for lot in dispense.lots) and dispense.at != ""
    kept = set(dispense.suspects) - {OLDER_THAN_LOT}
    return replace(dispense, suspects=tuple(sorted(kept | ({OLDER_THAN_LOT} if older else set()))))
