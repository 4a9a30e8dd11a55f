"""Two actors record the same dispenses, each with its own errors.

What one of them never records, the other has: a dispense that nobody wrote
down is not in the world. About half of the errors concern patients of faulty
lots, for there they matter.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.kit.ids import dispense_id
from services.world.entities import Dispense
from services.world.names import Names
from services.world.records import Correction, Feed, Late, Pharmacy
from services.world.sizes import Size
from services.world.worldgen.dispensing import Shelf
from services.world.worldgen.mishaps import Counter, how_many, some_time_later

_CORRECTED_LATE = 0.5
_REASON = "the lot was misread from the pack beside it"


@dataclass(frozen=True)
class Errors:
    """Which dispenses suffer which error of whom; no dispense has two."""

    never_at_pharmacy: tuple[Dispense, ...]
    never_at_hospital: tuple[Dispense, ...]
    late_at_pharmacy: tuple[Dispense, ...]
    late_at_both: tuple[Dispense, ...]
    twice_at_pharmacy: tuple[Dispense, ...]
    twice_at_hospital: tuple[Dispense, ...]
    wrong_at_pharmacy: tuple[tuple[Dispense, str], ...]
    wrong_at_hospital: tuple[tuple[Dispense, str], ...]


class Scribes:
    """Makes the feeds of one world; `confused` says what a lot may be taken for."""

    def __init__(
        self,
        size: Size,
        names: Names,
        shelves: Iterable[Shelf],
        now: datetime,
        confused: Mapping[str, str],
    ) -> None:
        self._size, self._names, self._now, self._confused = size, names, now, confused
        self._draw = random.Random(names.draw("records"))
        self._shelf_of = {lot.lot: shelf for shelf in shelves for lot in shelf.lots}

    def errors(self, counter: Counter, harmful: Set[str]) -> Errors:
        """`harmful` are the ids of the dispenses of faulty lots."""
        free = [dispense for dispense in counter.dispenses if dispense.dispense not in counter.spoilt]
        count = len(counter.dispenses)
        matters = [dispense for dispense in free if dispense.dispense in harmful]
        others = [dispense for dispense in free if dispense.dispense not in harmful]
        rates = self._size.rates
        self._draw.shuffle(matters)
        self._draw.shuffle(others)

        def take(share: float) -> tuple[Dispense, ...]:
            wanted = how_many(share, count)
            half = [matters.pop() for _ in range(min(wanted - wanted // 2, len(matters)))]
            return (*half, *(others.pop() for _ in range(min(wanted - len(half), len(others)))))

        def mistake(share: float) -> tuple[tuple[Dispense, str], ...]:
            if rates.same_number_only:
                for pool in (matters, others):  # the last are taken first
                    pool.sort(key=lambda dispense: dispense.lot in self._confused)
            found = [(dispense, self._mistaken(dispense)) for dispense in take(share)]
            return tuple((dispense, lot) for dispense, lot in found if lot)

        return Errors(
            never_at_pharmacy=take(rates.never_at_pharmacy),
            never_at_hospital=take(rates.never_at_hospital),
            late_at_pharmacy=take(rates.late_at_pharmacy),
            late_at_both=take(rates.late_at_both),
            twice_at_pharmacy=take(rates.twice_at_pharmacy),
            twice_at_hospital=take(rates.twice_at_hospital),
            wrong_at_pharmacy=mistake(rates.wrong_lot_at_pharmacy),
            wrong_at_hospital=mistake(rates.wrong_lot_at_hospital),
        )

    def _mistaken(self, dispense: Dispense) -> str:
        """The lot that it is taken for: of the same number if there is one, else the one beside it."""
        if (other := self._confused.get(dispense.lot)) or self._size.rates.same_number_only:
            return other or ""
        return self._shelf_of[dispense.lot].neighbour(dispense.lot, dispense.at) or ""

    # -- the pharmacies -------------------------------------------------------

    def pharmacies(self, counter: Counter, errors: Errors) -> tuple[Pharmacy, ...]:
        """What it could not name it records without a patient."""
        names = [f"pharmacy-{number}" for number in range(1, self._size.pharmacies + 1)]
        nameless = {late.dispense.dispense for late in counter.found_out}
        said = [
            replace(item, site="", pseudonym="") if item.dispense in nameless else item
            for item in counter.dispenses
        ]
        feed = self._feed(
            said,
            never=errors.never_at_pharmacy,
            late=(*errors.late_at_pharmacy, *errors.late_at_both),
            twice=errors.twice_at_pharmacy,
            wrong=errors.wrong_at_pharmacy,
            kind="PC",
        )
        return tuple(
            Pharmacy(
                name=name,
                feed=_of(feed, "pharmacy", name),
                returns=tuple(item for item in counter.returns if item.dispense.pharmacy == name),
                found_out=tuple(item for item in counter.found_out if item.dispense.pharmacy == name),
            )
            for name in names
        )

    # -- the hospitals --------------------------------------------------------

    def hospitals(self, counter: Counter, errors: Errors) -> dict[str, Feed]:
        """By site. What a pharmacy could not name at first stands in the paper charts alone."""
        patients = [item for item in counter.dispenses if item.dispense not in counter.strangers]
        feed = self._feed(
            patients,
            never=(*errors.never_at_hospital, *(late.dispense for late in counter.found_out)),
            late=errors.late_at_both,
            twice=errors.twice_at_hospital,
            wrong=errors.wrong_at_hospital,
            kind="HC",
        )
        return {site: _of(feed, "site", site) for site in self._size.sites}

    def _feed(
        self,
        dispenses: Sequence[Dispense],
        never: Sequence[Dispense],
        late: Sequence[Dispense],
        twice: Sequence[Dispense],
        wrong: Sequence[tuple[Dispense, str]],
        kind: str,
    ) -> Feed:
        missing = {dispense.dispense for dispense in (*never, *late)}
        corrections = [
            self._correction(self._names.record(kind, number + 1), dispense, lot)
            for number, (dispense, lot) in enumerate(wrong)
        ]
        said = {item.right.dispense: item.wrong for item in corrections}
        arrivals = [Late(some_time_later(self._draw), dispense) for dispense in late]
        return Feed(
            on_time=tuple(
                said.get(dispense.dispense, dispense)
                for dispense in dispenses
                if dispense.dispense not in missing
            ),
            sent_twice=tuple(twice),
            never=tuple(never),
            late=tuple(sorted(arrivals, key=lambda arrival: (arrival.after, arrival.dispense.dispense))),
            corrections=tuple(sorted(corrections, key=lambda item: (item.late or timedelta(), item.record))),
        )

    def _correction(self, record: str, right: Dispense, lot: str) -> Correction:
        """Half of the wrong records were noticed within a day, half while the runs go on."""
        wrong = replace(right, lot=lot, dispense=dispense_id(right.site, right.order, lot))
        if self._draw.random() < _CORRECTED_LATE:
            late = some_time_later(self._draw)
            return Correction(record, wrong, right, _REASON, self._now + late, late)
        at = right.at + timedelta(hours=self._draw.randint(1, 24))
        return Correction(record, wrong, right, _REASON, at)


def _of(feed: Feed, field: str, name: str) -> Feed:
    """The part of a feed that is one actor's: its pharmacy's, or its site's."""

    def mine(dispense: Dispense) -> bool:
        return bool(getattr(dispense, field) == name)

    return Feed(
        on_time=tuple(item for item in feed.on_time if mine(item)),
        sent_twice=tuple(item for item in feed.sent_twice if mine(item)),
        late=tuple(item for item in feed.late if mine(item.dispense)),
        never=tuple(item for item in feed.never if mine(item)),
        corrections=tuple(item for item in feed.corrections if mine(item.right)),
    )


def harmful(dispenses: Iterable[Dispense], implicated: Set[str]) -> frozenset[str]:
    """The ids of the dispenses that are, or may be, of an implicated lot."""
    return frozenset(item.dispense for item in dispenses if not implicated.isdisjoint(item.lots))
