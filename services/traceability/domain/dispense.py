"""A dispense, as its sources claim it.

Every claim is kept; what the platform believes is computed from all of them,
so that order and repetition leave no trace. Sources that contradict one
another about lot or patient make it disputed: a person has to look.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from pharmaloop.traceability.v1 import events_pb2 as events
from services.traceability.domain.moments import earliest, when

OLDER_THAN_LOT = "OLDER_THAN_LOT"
CONFLICT = "CONFLICT"


@dataclass(frozen=True, order=True)
class Claim:
    """What one record says."""

    source: str
    lot: str
    site: str
    pseudonym: str
    at: str


@dataclass(frozen=True)
class Dispense:
    """A dispense by its id. More than one lot only when its sources contradict one another;
    `waiting` is the site that it names, while nobody has registered that."""

    dispense: str
    lots: tuple[str, ...]
    site: str
    pseudonym: str
    at: str
    claims: tuple[Claim, ...]
    suspects: tuple[str, ...] = ()
    waiting: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(sorted({claim.source for claim in self.claims}))

    @property
    def disputed(self) -> bool:
        return CONFLICT in self.suspects


def claim_of(record: events.DispenseRecorded) -> Claim:
    """What the record claims."""
    return Claim(record.source, record.lot, record.site, record.pseudonym, when(record.at))


def _patient(claims: tuple[Claim, ...]) -> tuple[str, str]:
    """Site and pseudonym: a pair that one record gives whole, else what the records give together."""
    whole = [(claim.site, claim.pseudonym) for claim in claims if claim.site and claim.pseudonym]
    if whole:
        return min(whole)
    return earliest(*(c.site for c in claims)), earliest(*(c.pseudonym for c in claims))


def _contradict(claims: tuple[Claim, ...]) -> bool:
    told = (
        {claim.lot for claim in claims},
        {claim.site for claim in claims if claim.site},
        {claim.pseudonym for claim in claims if claim.pseudonym},
    )
    return any(len(values) > 1 for values in told)


def claimed(before: Dispense | None, dispense: str, claim: Claim) -> Dispense:
    """The dispense with one more claim; the same when it was made before."""
    claims = tuple(sorted({*(before.claims if before else ()), claim}))
    site, pseudonym = _patient(claims)
    kept = set(before.suspects if before else ()) - {CONFLICT}
    return Dispense(
        dispense=dispense,
        lots=tuple(sorted({c.lot for c in claims})),
        site=site,
        pseudonym=pseudonym,
        at=earliest(*(c.at for c in claims)),
        claims=claims,
        suspects=tuple(sorted(kept | ({CONFLICT} if _contradict(claims) else set()))),
    )


def placed(dispense: Dispense, sites: Collection[str]) -> Dispense:
    """The dispense, waiting for its site or not."""
    return replace(dispense, waiting="" if dispense.site in sites else dispense.site)


def aged(dispense: Dispense, made: Mapping[str, str]) -> Dispense:
    """Flag a dispense that is older than its lot; `made` gives the lots' making, where known."""
    older = any(dispense.at < made.get(lot, "") for lot in dispense.lots) and dispense.at != ""
    kept = set(dispense.suspects) - {OLDER_THAN_LOT}
    return replace(dispense, suspects=tuple(sorted(kept | ({OLDER_THAN_LOT} if older else set()))))
