"""The people: who they are, what they take, and when they need a new pack of it.

Hospital A's are the treated subjects of the real pilot study, the others are
made. A person who moves is a patient of two hospitals, one after the other,
under two pseudonyms.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from services.world.entities import DRYER
from services.world.names import PRODUCTS, Product
from services.world.sizes import Size
from services.world.worldgen.cdisc import Pilot

PILOT_SITE = "hospital-a"
LAST_DISPENSE = timedelta(days=3)
#: Without the pilot study, people are patients for so long.
_SHORT_SPAN = timedelta(days=120)
_MONTH = timedelta(days=28)
_MOST_PACKS = 6
_BY_DOSE = {product.dose: product for product in PRODUCTS.values() if product.dose is not None}


@dataclass(frozen=True)
class Stay:
    """A person as a patient of one hospital, until they move on."""

    site: str
    pharmacies: tuple[str, ...]
    since: datetime


@dataclass(frozen=True)
class Person:
    """`key` is their true identity and never leaves the generator. `stays` are one or two;
    `ended` is when they withdrew or died (`ending`), which may be after the world's beginning."""

    key: str
    age: int
    sex: str
    arm: str
    consent: bool
    silent: bool
    stays: tuple[Stay, ...]
    ending: str = ""
    ended: datetime | None = None

    def stay(self, at: datetime) -> Stay:
        return [self.stays[0], *(stay for stay in self.stays[1:] if stay.since <= at)][-1]


@dataclass(frozen=True)
class Need:
    """A person needs a pack of a product."""

    person: Person
    sequence: int
    product: Product
    at: datetime
    days: int


def rebase(pilot: Pilot, anchor: datetime) -> timedelta:
    """How far the study's dates are moved: its last exposure comes to lie shortly before now."""
    return anchor.date() - LAST_DISPENSE - max(exposure.start for exposure in pilot.exposures)


def opening_hours(day: date, draw: random.Random) -> datetime:
    """A moment between 8 and 17 o'clock in Shanghai."""
    return datetime.combine(day, time(0), UTC) + timedelta(minutes=draw.randrange(9 * 60))


def shops(size: Size, site: str) -> tuple[str, ...]:
    """The pharmacies that hand out a hospital's prescriptions: the hospitals share them out."""
    numbers = range(1, size.pharmacies + 1)
    place, count = size.sites.index(site), len(size.sites)
    return tuple(f"pharmacy-{number}" for number in numbers if (number - 1) % count == place)


class People:
    """Everybody, and what they need; `seed` is the text that every draw begins with."""

    def __init__(self, size: Size, pilot: Pilot | None, anchor: datetime, seed: str) -> None:
        self._size, self._anchor, self._seed = size, anchor, seed
        self._draw = random.Random(f"{seed}/people")
        self.persons: list[Person] = []
        self.needs: list[Need] = []
        begin = anchor - LAST_DISPENSE - _SHORT_SPAN
        if pilot is not None:
            self._enrol(pilot, rebase(pilot, anchor))
            begin = min(need.at for need in self.needs)
        self._make(begin)
        self.needs.sort(key=lambda need: (need.at, need.person.key, need.sequence))

    # -- the study ----------------------------------------------------------

    def _enrol(self, pilot: Pilot, shift: timedelta) -> None:
        people: dict[str, Person] = {}
        for row in pilot.subjects:
            ended = row.died or row.withdrew
            people[row.usubjid] = Person(
                key=row.usubjid,
                age=row.age,
                sex=row.sex,
                arm=row.arm,
                consent=self._draw.random() >= self._size.rates.refused,
                silent=self._draw.random() < self._size.rates.silent,
                stays=(Stay(PILOT_SITE, self._shops(PILOT_SITE), _morning(row.recorded + shift)),),
                ending="DECEASED" if row.died else "WITHDRAWN" if row.withdrew else "",
                ended=_morning(ended + shift) if ended else None,
            )
        self.persons += people.values()
        for exposure in pilot.exposures:
            day = opening_hours(exposure.start + shift, self._draw)
            product = _BY_DOSE[exposure.dose]
            self.needs.append(Need(people[exposure.usubjid], exposure.sequence, product, day, exposure.days))

    # -- the others ---------------------------------------------------------

    def _make(self, begin: datetime) -> None:
        keys = [
            (site, f"{site}/{number:05d}") for site, count in self._size.patients for number in range(count)
        ]
        counts = self._counts(len(keys), self._size.dispenses - len(self.needs))
        for (site, key), packs in zip(keys, counts, strict=True):
            self._add(site, key, packs, begin)

    def _counts(self, people: int, packs: int) -> list[int]:
        """How many packs each person needs: one at least, and all together what was asked for."""
        if not people:
            return []
        if not people <= packs <= people * _MOST_PACKS:
            raise ValueError(f"{people} people cannot need {packs} packs: 1 to {_MOST_PACKS} each")
        counts = [self._draw.randint(1, _MOST_PACKS - 1) for _ in range(people)]
        while (missing := packs - sum(counts)) != 0:
            step = 1 if missing > 0 else -1
            for place in self._draw.sample(range(people), min(people, abs(missing))):
                counts[place] = min(_MOST_PACKS, max(1, counts[place] + step))
        return counts

    def _add(self, site: str, key: str, packs: int, begin: datetime) -> None:
        draw = random.Random(f"{self._seed}/{key}")
        product = self._product(draw)
        chronic = product.process == DRYER
        last = self._anchor - LAST_DISPENSE
        every = min(_MONTH if chronic else timedelta(days=draw.randint(7, 60)), (last - begin) / packs)
        first = begin + (last - begin - every * (packs - 1)) * draw.random()
        days = [opening_hours((first + every * number).date(), draw) for number in range(packs)]
        person = self._person(draw, site, key, product, days)
        self.persons.append(person)
        self.needs += [
            Need(person, number + 1, product, at, 28 if chronic else 10) for number, at in enumerate(days)
        ]

    def _person(
        self, draw: random.Random, site: str, key: str, product: Product, days: list[datetime]
    ) -> Person:
        rates = self._size.rates
        since = days[0] - timedelta(days=draw.randint(0, 20), hours=1)
        stays = [Stay(site, self._shops(site), since)]
        fate, ending, ended = draw.random(), "", None
        if fate < rates.moved and len(self._synthetic) > 1:
            stays.append(self._moved(draw, site, days))
        elif fate < rates.moved + rates.deceased:
            ending = "DECEASED"
        elif fate < rates.moved + rates.deceased + rates.withdrawn:
            ending = "WITHDRAWN"
        if ending:
            ended = self._some_time_after(draw, days[-1])
        return Person(
            key=key,
            age=draw.randint(55, 90) if product.process == DRYER else draw.randint(18, 90),
            sex=draw.choice("FM"),
            arm=product.arm,
            consent=draw.random() >= rates.refused,
            silent=draw.random() < rates.silent,
            stays=tuple(stays),
            ending=ending,
            ended=ended,
        )

    @property
    def _synthetic(self) -> list[str]:
        return [site for site, _ in self._size.patients]

    def _moved(self, draw: random.Random, site: str, days: list[datetime]) -> Stay:
        """To another hospital: between two of the packs, or after the last."""
        other = draw.choice([name for name in self._synthetic if name != site])
        place = draw.randint(1, len(days))
        at = days[place] - timedelta(hours=12) if place < len(days) else self._some_time_after(draw, days[-1])
        return Stay(other, self._shops(other), at)

    def _some_time_after(self, draw: random.Random, last: datetime) -> datetime:
        """Half of it has happened; half happens while the runs go on, some hours after now."""
        if draw.random() < 0.5:
            return last + (self._anchor - timedelta(days=1) - last) * draw.random()
        return self._anchor + timedelta(minutes=draw.randint(60, 600))

    def _product(self, draw: random.Random) -> Product:
        taken = [item for item in self._size.products if item.share]
        return draw.choices([item.product for item in taken], [item.share for item in taken])[0]

    def _shops(self, site: str) -> tuple[str, ...]:
        return shops(self._size, site)


def _morning(day: date) -> datetime:
    return datetime.combine(day, time(1), UTC)


def patients(people: Iterable[Person]) -> Iterator[tuple[Person, Stay]]:
    """Everybody at every hospital where they were a patient."""
    for person in people:
        for stay in person.stays:
            yield person, stay
