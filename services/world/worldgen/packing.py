"""From raw lots over the lines to finished lots: every record that a lot was made from lots.

Finished lots take the lots of their line in the order of time, one to three
each, and most of those go into two finished lots or more. Placebo is blended
and never sees a line. Some lots are packed again by the contract maker under
its own number, and now and then part of a lot is worked into the next.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.world.entities import DRYER, FERMENTER, Line, Material
from services.world.names import CONTRACT_MAKER, MAKER, OTHER_MAKER, Names
from services.world.sizes import LineSize, Size
from services.world.worldgen.dispensing import FinishedLot, Shelf

_LARGEST_MERGE = 3
_MERGED = 0.35
_KG_MADE, _KG_RAW = 40.0, 500.0
_IN_STOCK_BEFORE = timedelta(days=30)
_REWORK_TAKES = timedelta(hours=3)
#: What each line uses, and who receives it; the last is for blends.
_USED = {
    DRYER: (MAKER, ("xanomeline", "lactose")),
    FERMENTER: (OTHER_MAKER, ("glucose", "phenylacetic-acid")),
    "": (MAKER, ("starch",)),
}
_EARLIEST_LATE, _LATEST_LATE = timedelta(minutes=60), timedelta(hours=5)


@dataclass(frozen=True)
class Recipes:
    """For each finished lot that is packed from a line: the line's lots inside."""

    inside: Mapping[str, tuple[str, ...]]

    def first_use(self, made: Mapping[str, datetime]) -> dict[str, datetime]:
        """When each lot of the line was first worked on."""
        first: dict[str, datetime] = {}
        for lot, inputs in self.inside.items():
            for used in inputs:
                first[used] = min(first.get(used, made[lot]), made[lot])
        return first


def recipes(line: LineSize, used: Sequence[str], shelves: Iterable[Shelf], names: Names) -> Recipes:
    """Every used lot of the line goes into a finished lot; `used` and the finished lots by time."""
    own = [
        lot
        for shelf in shelves
        for lot in shelf.lots
        if lot.product.process == line.process and not lot.repacked
    ]
    own.sort(key=lambda lot: (lot.made, lot.lot))
    draw = random.Random(names.draw("recipes", line.process))
    inside: dict[str, tuple[str, ...]] = {}
    for place, lot in enumerate(own):
        first = place * len(used) // len(own)
        last = max(first + 1, (place + 1) * len(used) // len(own))
        if last - first < _LARGEST_MERGE and first and draw.random() < _MERGED:
            first -= 1
        inside[lot.lot] = tuple(used[first:last])
    return Recipes(inside)


class Packing:
    """Collects the records of one world."""

    def __init__(self, size: Size, names: Names, now: datetime) -> None:
        self._size, self._names, self._now = size, names, now
        self._draw = random.Random(names.draw("packing"))
        self._raw = dict(size.raw)
        self._received: dict[str, Material] = {}

    def records(
        self, lines: Sequence[Line], shelves: Iterable[Shelf], recipes: Sequence[Recipes]
    ) -> tuple[Material, ...]:
        """All of them, in order of time."""
        finished = sorted(
            (lot for shelf in shelves for lot in shelf.lots), key=lambda lot: (lot.made, lot.lot)
        )
        found = [item for line in lines for item in self._processed(line)]
        found += self._packed(finished, recipes)
        found += self._blended([lot for lot in finished if not lot.product.process and not lot.repacked])
        found += self._contract_work(finished)
        found += self._reworked_intermediates(lines)
        found += self._received.values()
        found.sort(key=lambda item: (item.at, item.lot, item.kind))
        numbered = [
            replace(item, record=self._names.record("WO", place + 1)) for place, item in enumerate(found)
        ]
        return self._some_late(numbered)

    def _processed(self, line: Line) -> Iterator[Material]:
        for place, lot in enumerate(line.lots):
            inputs = self._from_stock(line.process, place, len(line.lots), lot.started)
            yield _material(lot.lot, inputs, lot.completed, _KG_MADE, "process", f"{line.owner}/mes")

    def _packed(self, finished: Iterable[FinishedLot], recipes: Sequence[Recipes]) -> Iterator[Material]:
        """What another world's line made is packed from nothing that is known here."""
        inside = {lot: inputs for recipe in recipes for lot, inputs in recipe.inside.items()}
        for lot in finished:
            if lot.product.process and not lot.repacked:
                inputs = inside.get(lot.lot, ())
                yield _packs(lot.lot, inputs, lot.made, "packed", f"{lot.product.owner}/mes")

    def _blended(self, finished: Sequence[FinishedLot]) -> Iterator[Material]:
        """Excipient alone, blended and packed."""
        blends: dict[int, datetime] = {}
        for place, lot in enumerate(finished):
            number = place * self._size.blends // len(finished)
            mixed = blends.setdefault(number, lot.made - timedelta(days=2))
            blend = self._names.blend(number + 1)
            if mixed == lot.made - timedelta(days=2):
                inputs = self._from_stock("", number, self._size.blends, mixed)
                yield _material(blend, inputs, mixed, _KG_MADE, "blend", f"{MAKER}/mes")
            yield _packs(lot.lot, (blend,), lot.made, "packed", f"{MAKER}/mes")

    def _contract_work(self, finished: Iterable[FinishedLot]) -> Iterator[Material]:
        source = f"{CONTRACT_MAKER}/mes"
        for lot in finished:
            if lot.repacked:
                yield _packs(lot.lot, lot.from_lots, lot.made, "repacked", source)
            elif lot.reworked:
                yield _packs(lot.lot, lot.from_lots, lot.made + _REWORK_TAKES, "reworked", source)

    def _reworked_intermediates(self, lines: Sequence[Line]) -> Iterator[Material]:
        """Part of a used lot of a line goes into the next used one, before that is packed."""
        for line in lines:
            used = [lot for lot in line.lots if lot.used]
            for place in self._draw.sample(range(1, len(used)), self._size.reworked_intermediates):
                lot, before = used[place], used[place - 1]
                at = lot.completed + _REWORK_TAKES
                yield _material(
                    lot.lot, (before.lot,), at, _KG_MADE / 10, "reworked", f"{CONTRACT_MAKER}/mes"
                )

    def _from_stock(self, process: str, place: int, count: int, first: datetime) -> tuple[str, ...]:
        """Raw lots, used up one after the other; each was received in time."""
        owner, items = _USED[process]
        lots = []
        for item in items:
            raw = self._names.raw(owner, item, place * self._raw[item] // count + 1)
            received = _material(raw, (), first - _IN_STOCK_BEFORE, _KG_RAW, "received", f"{owner}/mes")
            self._received.setdefault(raw, received)
            lots.append(raw)
        return tuple(lots)

    def _some_late(self, records: Sequence[Material]) -> tuple[Material, ...]:
        """The record of a lot that was packed again may come late."""
        again = [item.record for item in records if item.kind == "repacked"]
        late = set(self._draw.sample(again, min(len(again), self._size.rates.late_materials)))
        span = (_LATEST_LATE - _EARLIEST_LATE).total_seconds()
        return tuple(
            replace(item, late=_EARLIEST_LATE + timedelta(seconds=self._draw.randrange(int(span))))
            if item.record in late
            else item
            for item in records
        )


def _material(
    lot: str, inputs: tuple[str, ...], at: datetime, amount: float, kind: str, source: str, unit: str = "kg"
) -> Material:
    return Material("", lot, inputs, at, amount, unit, kind, source)


def _packs(lot: str, inputs: tuple[str, ...], at: datetime, kind: str, source: str) -> Material:
    return _material(lot, inputs, at, 0.0, kind, source, "{pack}")
