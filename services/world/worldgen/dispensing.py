"""Every need becomes one dispense of one finished lot.

Within a product, lots are used up by date; a pharmacy still hands out some
packs of the lot before. Some lots of the product are not the maker's own but
were packed again by the contract maker from the lots before them.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.kit.ids import dispense_id
from services.world.entities import Dispense
from services.world.names import Names, Product
from services.world.sizes import ProductSize
from services.world.worldgen.people import Need

_OLDER_STOCK = 0.15
#: Some people do not go to their usual pharmacy.
_ELSEWHERE = 0.10


@dataclass(frozen=True)
class FinishedLot:
    """A finished lot and when it was made; `from_lots` are what it was packed again from, or what of
    another lot was worked into it (`reworked`). A lot of the maker's own has neither."""

    lot: str
    product: Product
    made: datetime
    from_lots: tuple[str, ...] = ()
    reworked: bool = False

    @property
    def repacked(self) -> bool:
        return bool(self.from_lots) and not self.reworked


@dataclass(frozen=True)
class Shelf:
    """The finished lots of a product in the order in which they were made."""

    lots: tuple[FinishedLot, ...]

    def neighbour(self, lot: str, at: datetime, steps: int = 1) -> str | None:
        """Another lot that lay beside it at a moment: so many before it, else after it."""
        place = next(place for place, item in enumerate(self.lots) if item.lot == lot)
        for other in (place - steps, place + steps):
            if 0 <= other < len(self.lots) and self.lots[other].made < at:
                return self.lots[other].lot
        return None


def dispense_all(
    needs: Sequence[Need], sizes: Iterable[ProductSize], names: Names
) -> tuple[dict[str, Shelf], list[Dispense]]:
    """The lots of each product by its name, and all dispenses by time."""
    shelves: dict[str, Shelf] = {}
    dispenses: list[Dispense] = []
    for size in sizes:
        wanted = [need for need in needs if need.product is size.product]
        shelves[size.product.name], given = _hand_out(wanted, size, names)
        dispenses += given
    return shelves, sorted(dispenses, key=lambda dispense: (dispense.at, dispense.dispense))


def _hand_out(needs: Sequence[Need], size: ProductSize, names: Names) -> tuple[Shelf, list[Dispense]]:
    draw = random.Random(names.draw("dispensing", size.product.name))
    count = size.packed + size.repacked
    if len(needs) < count:
        raise ValueError(f"{len(needs)} packs of {size.product.name} are too few for {count} lots")
    numbers = _shared_out(len(needs), count, draw)
    first = {number: needs[numbers.index(number)].at for number in range(count)}
    made = [first[n] - timedelta(days=draw.randint(10, 20), hours=draw.randrange(12)) for n in range(count)]
    shelf = Shelf(_lots(size, sorted(made), draw, names))
    given = [
        _dispense(need, shelf.lots[_on_the_shelf(number, draw)].lot, draw, names)
        for need, number in zip(needs, numbers, strict=True)
    ]
    return shelf, given


def _shared_out(packs: int, lots: int, draw: random.Random) -> list[int]:
    """The lot of each pack, in order: every lot has some, none has very many."""
    sizes = [draw.uniform(0.6, 1.4) for _ in range(lots)]
    whole, total, bounds = sum(sizes), 0.0, []
    for size in sizes:
        total += size
        bounds.append(round(total / whole * (packs - lots)))
    counts = [1 + high - low for low, high in zip([0, *bounds[:-1]], bounds, strict=True)]
    return [lot for lot, count in enumerate(counts) for _ in range(count)]


def _lots(
    size: ProductSize, made: Sequence[datetime], draw: random.Random, names: Names
) -> tuple[FinishedLot, ...]:
    again = set(draw.sample(range(2, len(made)), size.repacked)) if size.repacked else set[int]()
    own: list[str] = []
    lots: list[FinishedLot] = []
    for place, at in enumerate(made):
        if place in again:
            lot = names.repacked(size.product, place - len(own) + 1)
            lots.append(FinishedLot(lot, size.product, at, tuple(own[-draw.randint(1, 2) :])))
        else:
            own.append(names.finished(size.product, len(own) + 1))
            lots.append(FinishedLot(own[-1], size.product, at))
    return _reworked(lots, size.reworked, draw)


def _reworked(lots: list[FinishedLot], count: int, draw: random.Random) -> tuple[FinishedLot, ...]:
    """Part of a lot of the maker's goes into its next one."""
    own = [place for place, lot in enumerate(lots) if not lot.from_lots]
    for number in draw.sample(range(1, len(own)), count):
        place, before = own[number], lots[own[number - 1]]
        lot = lots[place]
        lots[place] = FinishedLot(lot.lot, lot.product, lot.made, (before.lot,), reworked=True)
    return tuple(lots)


def _on_the_shelf(number: int, draw: random.Random) -> int:
    """Mostly the current lot, sometimes the one before."""
    return number - 1 if number and draw.random() < _OLDER_STOCK else number


def _dispense(need: Need, lot: str, draw: random.Random, names: Names) -> Dispense:
    person, stay = need.person, need.person.stay(need.at)
    order = names.order(person.key, need.sequence)
    shops = stay.pharmacies
    usual = random.Random(names.draw("usual", person.key)).choice(shops)
    return Dispense(
        dispense=dispense_id(stay.site, order, lot),
        order=order,
        lot=lot,
        site=stay.site,
        pseudonym=names.pseudonym(stay.site, person.key),
        pharmacy=draw.choice(shops) if draw.random() < _ELSEWHERE else usual,
        at=need.at,
        amount=need.days,
        unit=need.product.unit,
    )
