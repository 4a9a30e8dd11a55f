"""What was written down of what happened, by whom, with which errors; and the world as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.world.entities import (
    Blood,
    Body,
    Dispense,
    FollowUp,
    HazardEvaluation,
    Line,
    LotTest,
    Material,
    Notice,
    Observation,
    Shipment,
    Subject,
    Tube,
)
from services.world.treatment import Treatment


@dataclass(frozen=True, slots=True)
class Late:
    """A record that reaches its system only some platform time after the runs began."""

    after: timedelta
    dispense: Dispense


@dataclass(frozen=True, slots=True)
class Correction:
    """A source takes back what it said and says what is right; `late` as in `Material`."""

    record: str
    wrong: Dispense
    right: Dispense
    reason: str
    at: datetime
    late: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Return:
    """A dispensed pack came back, complete and unopened or not; `late` as in `Material`."""

    record: str
    dispense: Dispense
    opened: bool
    at: datetime
    late: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Feed:
    """One actor's records of the dispenses, with its own errors.

    Recorded at once; by chance a second time; late; and on paper only. The
    wrong ones among them are taken back by `corrections`.
    """

    on_time: tuple[Dispense, ...]
    sent_twice: tuple[Dispense, ...]
    late: tuple[Late, ...]
    never: tuple[Dispense, ...]
    corrections: tuple[Correction, ...]


@dataclass(frozen=True, slots=True)
class Pharmacy:
    """A pharmacy's own feed. `found_out` are dispenses of its siteless ones whose patient it finds later."""

    name: str
    feed: Feed
    returns: tuple[Return, ...]
    found_out: tuple[Late, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A patient withdraws, dies or moves some platform time after the runs began."""

    after: timedelta
    subject: Subject


@dataclass(frozen=True, slots=True)
class Hospital:
    """A hospital's patients, its own medication records, how it follows up, and what its laboratory would
    read. A subject may stand twice, as it changed."""

    site: str
    name: str
    subjects: tuple[Subject, ...]
    changes: tuple[Change, ...]
    bodies: tuple[Body, ...]
    feed: Feed
    follow_ups: tuple[FollowUp, ...]
    tubes: tuple[Tube, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A dispense from opened packs, and the lot that it truly was of. Nobody wrote that down."""

    dispense: str
    lot: str


@dataclass(frozen=True, slots=True)
class Harm:
    """What faulty material did to a person: their risk of a complaint, and the laboratory values it moves."""

    site: str
    pseudonym: str
    lot: str
    kind: str
    risk: float
    labs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class World:
    """Everything that happened, and who recorded what of it. `dispenses` are the true ones."""

    seed: int
    series: str
    size: str
    anchor: datetime
    lines: tuple[Line, ...]
    materials: tuple[Material, ...]
    shipments: tuple[Shipment, ...]
    dispenses: tuple[Dispense, ...]
    opened: tuple[Opened, ...]
    pharmacies: tuple[Pharmacy, ...]
    hospitals: tuple[Hospital, ...]
    harms: tuple[Harm, ...]
    blood: tuple[Blood, ...]
    observations: tuple[Observation, ...]
    lot_tests: tuple[LotTest, ...]
    notices: tuple[Notice, ...]
    hazards: tuple[HazardEvaluation, ...]
    treatment: Treatment | None = None

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(hospital.site for hospital in self.hospitals)

    def returns(self) -> Iterator[Return]:
        for pharmacy in self.pharmacies:
            yield from pharmacy.returns

    def corrections(self) -> Iterator[tuple[str, Correction]]:
        """Every correction with the actor who makes it."""
        for pharmacy in self.pharmacies:
            yield from ((pharmacy.name, item) for item in pharmacy.feed.corrections)
        for hospital in self.hospitals:
            yield from ((hospital.site, item) for item in hospital.feed.corrections)
