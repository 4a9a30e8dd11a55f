"""What goes wrong at the counter, before anybody writes anything down.

Packs are opened and mixed; something is sold to somebody whom no hospital
knows, or whose name nobody asks for until later; a pack comes back. A dispense
has one mishap at most.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from services.kit.ids import dispense_id
from services.world.entities import Dispense
from services.world.names import Names
from services.world.records import Late, Opened, Return
from services.world.sizes import Rates
from services.world.worldgen.dispensing import Shelf
from services.world.worldgen.people import PILOT_SITE

EARLIEST, LATEST = timedelta(minutes=30), timedelta(hours=6)
_OF_THREE = 0.25
_RETURNED_LATE = 0.3


def some_time_later(draw: random.Random) -> timedelta:
    """How long after the runs began something comes late."""
    return EARLIEST + timedelta(seconds=draw.randrange(int((LATEST - EARLIEST).total_seconds())))


def how_many(share: float, of: int) -> int:
    """A share of a number, and one at least where there is a share at all."""
    return max(1, round(share * of)) if share else 0


@dataclass(frozen=True)
class Counter:
    """The dispenses as they truly were. `strangers` are sold to nobody's patient; `found_out` tells
    later who it was; `spoilt` are the ids of everything that has had its mishap."""

    dispenses: tuple[Dispense, ...]
    opened: tuple[Opened, ...]
    strangers: frozenset[str]
    found_out: tuple[Late, ...]
    returns: tuple[Return, ...]
    spoilt: frozenset[str]


class Mishaps:
    """`shelves` are the finished lots of each product."""

    def __init__(self, shelves: Mapping[str, Shelf], rates: Rates, names: Names, now: datetime) -> None:
        self._rates, self._names, self._now = rates, names, now
        self._draw = random.Random(names.draw("mishaps"))
        self._shelf_of = {lot.lot: shelf for shelf in shelves.values() for lot in shelf.lots}

    def happen(self, dispenses: Iterable[Dispense]) -> Counter:
        plain = list(dispenses)
        count = len(plain)
        self._draw.shuffle(plain)

        def take(share: float, fits: Callable[[Dispense], bool] = lambda dispense: True) -> list[Dispense]:
            fitting = (place for place, dispense in enumerate(plain) if fits(dispense))
            chosen = list(islice(fitting, how_many(share, count)))
            taken = [plain[place] for place in chosen]
            for place in reversed(chosen):
                del plain[place]
            return taken

        rates = self._rates
        mixed = [self._mix(dispense) for dispense in take(rates.opened_packs, self._has_neighbour)]
        strangers = [_nameless(dispense) for dispense in take(rates.stranger, _outside_the_study)]
        nameless = [_kept_id(dispense) for dispense in take(rates.found_out)]
        closed, opened = take(rates.returned_unopened), take(rates.returned_opened)
        everything = [*(dispense for dispense, _ in mixed), *strangers, *nameless, *closed, *opened]
        returns = [self._return(dispense, opened=False) for dispense in closed]
        returns += [self._return(dispense, opened=True) for dispense in opened]
        returns.sort(key=lambda item: (item.at, item.dispense.dispense))
        return Counter(
            dispenses=tuple(sorted([*plain, *everything], key=lambda item: (item.at, item.dispense))),
            opened=tuple(sorted((truth for _, truth in mixed), key=lambda item: item.dispense)),
            strangers=frozenset(dispense.dispense for dispense in strangers),
            found_out=tuple(
                sorted(
                    (Late(some_time_later(self._draw), dispense) for dispense in nameless),
                    key=lambda late: (late.after, late.dispense.dispense),
                )
            ),
            returns=tuple(
                replace(item, record=self._names.record("RT", place + 1))
                for place, item in enumerate(returns)
            ),
            spoilt=frozenset(dispense.dispense for dispense in everything),
        )

    def _has_neighbour(self, dispense: Dispense) -> bool:
        return self._neighbour(dispense) is not None

    def _neighbour(self, dispense: Dispense, steps: int = 1) -> str | None:
        """None for a kit of the study, too: it is one subject's, and nothing is handed out of two."""
        shelf = self._shelf_of.get(dispense.lot)
        return shelf.neighbour(dispense.lot, dispense.at, steps) if shelf else None

    def _mix(self, dispense: Dispense) -> tuple[Dispense, Opened]:
        """Opened packs of two or three lots, and the one that it was."""
        others = [self._neighbour(dispense)]
        if self._draw.random() < _OF_THREE:
            others.append(self._neighbour(dispense, 2))
        lots = tuple(sorted({lot for lot in others if lot and lot != dispense.lot}))
        mixed = replace(dispense, possible_lots=lots)
        return mixed, Opened(dispense.dispense, self._draw.choice(mixed.lots))

    def _return(self, dispense: Dispense, *, opened: bool) -> Return:
        """Some days later; the youngest, and some others, come back while the runs go on."""
        at = dispense.at + timedelta(days=self._draw.randint(1, 20), hours=self._draw.randint(0, 8))
        if at < self._now and self._draw.random() >= _RETURNED_LATE:
            return Return("", dispense, opened, at)
        late = some_time_later(self._draw)
        return Return("", dispense, opened, self._now + late, late)


def _outside_the_study(dispense: Dispense) -> bool:
    return dispense.site != PILOT_SITE


def _nameless(dispense: Dispense) -> Dispense:
    """Nobody asked for a name: no site and no patient, for ever."""
    return replace(_kept_id(dispense), site="", pseudonym="")


def _kept_id(dispense: Dispense) -> Dispense:
    """Recorded before its site was known, a dispense keeps the id that it was given then."""
    return replace(dispense, dispense=dispense_id("", dispense.order, dispense.lot))
