"""The study's medicine is handed out as kits, so that no record of a dispense tells the arm.

The sponsor packs each dispense of the study as a kit of its own, from a finished
lot of what the subject is to take, and sends it to the pharmacy. Kits are numbered in the
order in which they are handed out; their item is the study. What is inside
stands in the sponsor's record of packing, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.kit.ids import dispense_id
from services.world.entities import Dispense, Material
from services.world.names import MAKER, Names
from services.world.worldgen.dispensing import FinishedLot, Shelf
from services.world.worldgen.people import PILOT_SITE

KIND, UNIT = "kit", "{kit}"
#: Packed at this share of the time from the making of the lot inside to the day on which it is needed.
_PACKED = 0.5


@dataclass(frozen=True)
class Kits:
    """All dispenses by time, those of the study by kit; the records of packing; the kits by number."""

    dispenses: tuple[Dispense, ...]
    materials: tuple[Material, ...]
    shelf: Shelf


def as_kits(dispenses: Iterable[Dispense], shelves: Mapping[str, Shelf], names: Names) -> Kits:
    """Pack a kit for every dispense at the study's hospital."""
    inside = {lot.lot: lot for shelf in shelves.values() for lot in shelf.lots}
    given: list[Dispense] = []
    materials: list[Material] = []
    kits: list[FinishedLot] = []
    for dispense in dispenses:
        if dispense.site != PILOT_SITE:
            given.append(dispense)
            continue
        lot = inside[dispense.lot]
        kit = replace(lot, lot=names.kit(len(kits) + 1), made=_packed(lot, dispense), from_lots=(lot.lot,))
        kits.append(kit)
        materials.append(_record(kit, names.record("KIT", len(kits))))
        id = dispense_id(dispense.site, dispense.order, kit.lot)
        given.append(replace(dispense, lot=kit.lot, dispense=id))
    given.sort(key=lambda item: (item.at, item.dispense))
    return Kits(tuple(given), tuple(materials), Shelf(tuple(kits)))


def without_kits(dispenses: Iterable[Dispense]) -> Kits:
    """Of a world without the study."""
    return Kits(tuple(dispenses), (), Shelf(()))


def with_kits(materials: Sequence[Material], kits: Kits) -> tuple[Material, ...]:
    """All records of material, in order of time."""
    return tuple(sorted((*materials, *kits.materials), key=lambda item: (item.at, item.lot, item.kind)))


def _packed(lot: FinishedLot, dispense: Dispense) -> datetime:
    return lot.made + (dispense.at - lot.made) * _PACKED


def _record(kit: FinishedLot, record: str) -> Material:
    return Material(record, kit.lot, kit.from_lots, kit.made, 1.0, UNIT, KIND, f"{MAKER}/mes")
