"""How the packs came to the pharmacies: over a wholesaler, or from another pharmacy.

Deliveries follow from what was handed out: no place gives away what it never
had, and every lot's record of packing says how many packs there were.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.kit.ids import in_kit, parse_lot
from services.world.entities import Dispense, Material, Shipment
from services.world.names import Names
from services.world.sizes import Size

_TO_WHOLESALER, _TO_PHARMACY, _TRANSFER = 0.3, 0.6, 0.9  # of the time from making to the first pack
#: What is delivered beyond what was handed out so far.
_SPARE = 3
_SPARE_AT_MAKER = 0.1


@dataclass
class _Wanted:
    """Packs of a lot at a place, and when the first of them was needed."""

    packs: int
    first: datetime


class Deliveries:
    """The shipments of one world."""

    def __init__(self, size: Size, names: Names) -> None:
        self._size, self._names = size, names
        self._draw = random.Random(names.draw("supply"))
        self._found: list[Shipment] = []

    def of(self, dispenses: Iterable[Dispense], made: Mapping[str, datetime]) -> tuple[Shipment, ...]:
        """`made`: when each finished lot was packed."""
        wanted: dict[str, dict[str, _Wanted]] = defaultdict(dict)
        for dispense in dispenses:
            if in_kit(dispense.lot):
                self._send_kit(dispense, made[dispense.lot])
                continue
            for lot in dispense.lots:
                place = wanted[lot].setdefault(dispense.pharmacy, _Wanted(_SPARE, dispense.at))
                place.packs += 1
                place.first = min(place.first, dispense.at)
        for lot in sorted(wanted):
            self._deliver(lot, made[lot], wanted[lot])
        self._found.sort(key=lambda item: (item.at, item.lot, item.from_place, item.to_place))
        return tuple(
            replace(item, record=self._names.record("SH", place + 1))
            for place, item in enumerate(self._found)
        )

    def _send_kit(self, dispense: Dispense, made: datetime) -> None:
        """A kit goes from the sponsor to the pharmacy that hands it out."""
        at, owner = made + (dispense.at - made) * _TO_PHARMACY, parse_lot(dispense.lot).owner
        self._ship(dispense.lot, owner, dispense.pharmacy, 1, at, owner, "{kit}")

    def _deliver(self, lot: str, made: datetime, wanted: dict[str, _Wanted]) -> None:
        by_pharmacy = sorted(wanted.items())
        direct: dict[str, _Wanted] = {}
        for number, (shop, need) in enumerate(by_pharmacy):
            giver = by_pharmacy[number - 1][0]
            if number and giver in direct and self._draw.random() < self._size.rates.transferred:
                first = min(need.first, direct[giver].first)
                direct[giver] = _Wanted(direct[giver].packs + need.packs, first)
                at = made + (first - made) * _TRANSFER
                self._ship(lot, giver, shop, need.packs, at, giver)
            else:
                direct[shop] = need
        through: Counter[str] = Counter()
        first = min(need.first for need in direct.values())
        for shop, need in direct.items():
            wholesaler = self._wholesaler(shop)
            through[wholesaler] += need.packs
            self._ship(
                lot, wholesaler, shop, need.packs, made + (need.first - made) * _TO_PHARMACY, wholesaler
            )
        owner = parse_lot(lot).owner
        for wholesaler, packs in sorted(through.items()):
            self._ship(lot, owner, wholesaler, packs, made + (first - made) * _TO_WHOLESALER, owner)

    def _wholesaler(self, shop: str) -> str:
        return f"wholesaler-{int(shop.rsplit('-', 1)[1]) % self._size.wholesalers + 1}"

    def _ship(
        self, lot: str, giver: str, taker: str, packs: int, at: datetime, source: str, unit: str = "{pack}"
    ) -> None:
        self._found.append(Shipment("", lot, giver, taker, packs, unit, at, source))


def with_amounts(materials: Sequence[Material], shipments: Iterable[Shipment]) -> tuple[Material, ...]:
    """The records of packing, with as many packs as left the maker, went into other lots, and remain."""
    left: Counter[str] = Counter()
    for shipment in shipments:
        if shipment.from_place == parse_lot(shipment.lot).owner:
            left[shipment.lot] += shipment.amount
    packed = {item.lot for item in materials if item.unit == "{pack}"}
    for item in sorted(materials, key=lambda item: item.at, reverse=True):
        for used in item.inputs:
            if used in packed:  # what was packed again, or worked in, or went into a kit, came from there
                left[used] += _taken(item, left[item.lot])
    return tuple(
        replace(item, amount=float(_SPARE if item.kind == "reworked" else _with_spare(left[item.lot])))
        if item.unit == "{pack}"
        else item
        for item in materials
    )


def _taken(item: Material, packs: int) -> int:
    """How many packs of each of its inputs a record used to make so many of its own."""
    if item.kind == "repacked":
        return round(packs / len(item.inputs))
    return round(item.amount) if item.kind == "kit" else _SPARE


def _with_spare(packs: int) -> int:
    return packs + max(1, round(packs * _SPARE_AT_MAKER))


def made_at(materials: Iterable[Material]) -> dict[str, datetime]:
    """When each lot was first made."""
    made: dict[str, datetime] = {}
    for item in materials:
        made[item.lot] = min(made.get(item.lot, item.at), item.at)
    return made
