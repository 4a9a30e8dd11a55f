"""The lots around a lot, as far as a reader opened them, asked of the trace step by step.

What is opened stands in the address of the page, so that a link keeps it: `open=down LOT KIND BEGIN`
is the lots of a kind that were made from a lot, a page of them from `BEGIN` on (the lot's own number;
left out for the first page), and `open=up LOT` is a lot whose kinds are shown. Lot keys have no spaces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pharmaloop.traceability.v1 import service_pb2 as api
from services.portal.backend import Backend, Refused

UP, DOWN = "up", "down"
_STEPS = {UP: api.MATERIAL_STEP_INPUTS, DOWN: api.MATERIAL_STEP_OUTPUTS}
_WAYS = {step: way for way, step in _STEPS.items()}
#: So many groups are open at once, the latest ones; of each so many lots are shown.
MOST_OPEN, PAGE = 20, 25
MOST_FOUND = 50


class Opened(NamedTuple):
    """A lot that is opened one way and, with a kind, its lots of that kind from `begin` on."""

    way: str
    lot: str
    kind: str = ""
    begin: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in self if part)

    @property
    def token(self) -> str:
        return f"{self.kind}/{self.begin}" if self.begin else ""


@dataclass(frozen=True)
class Group:
    """The lots of one kind next to a lot; those `shown` when it is opened, and how many stand around them."""

    of: str
    way: str
    kind: str
    lots: int
    opened: bool = False
    shown: tuple[Lot, ...] = ()
    before: int = 0
    after: int = 0
    #: The first lot of the next page.
    following: str = ""
    #: It is the one kind next to its lot, and opens and closes with it.
    alone: bool = False


@dataclass(frozen=True)
class Lot:
    """A lot as the trace tells of it; `onward`: how many lots are next to it; `groups` when it is opened."""

    lot: str
    known: bool = True
    suspect: str = ""
    onward: int = 0
    withheld: bool = False
    opened: bool = False
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True)
class Genealogy:
    """A lot with what is opened above and below it; `opened` is what of the address was found."""

    root: Lot
    above: tuple[Group, ...]
    below: tuple[Group, ...]
    opened: tuple[Opened, ...]


class Found(NamedTuple):
    """A lot that a search found: the way to it (UP, DOWN, or empty for the lot itself) and its steps."""

    lot: str
    way: str
    steps: tuple[str, ...]


def parse(told: Sequence[str]) -> list[Opened]:
    """What an address opens, each group once; what cannot be read is passed over."""
    found: dict[tuple[str, str, str], Opened] = {}
    for one in told:
        parts = one.split(" ")
        if parts[0] in _STEPS and 2 <= len(parts) <= 4 and all(parts):
            opened = Opened(*parts)
            found.pop(opened[:3], None)
            found[opened[:3]] = opened
    return list(found.values())[-MOST_OPEN:]


def with_open(opened: Iterable[Opened], *more: Opened) -> list[Opened]:
    """What is open when a reader opens these too, or turns the page of a group."""
    rest = [held for held in opened if all(held[:3] != one[:3] for one in more)]
    return [*rest, *more][-MOST_OPEN:]


def without(opened: Iterable[Opened], one: Opened) -> list[Opened]:
    """What is open when a group is closed, whose lot stays open, or a lot with all its groups."""
    rest = [held for held in opened if held[:2] != one[:2] or (one.kind and held.kind != one.kind)]
    return with_open(rest, Opened(one.way, one.lot)) if one.kind else rest


def way_to(found: Found) -> list[Opened]:
    """What has to be open so that a lot that was found is seen."""
    pairs = zip(found.steps, found.steps[1:], strict=False)
    return [Opened(found.way, lot, *_split(after)) for lot, after in pairs]


def _split(lot: str) -> tuple[str, str]:
    kind, _, number = lot.rpartition("/")
    return kind, number


async def read(backend: Backend, lot: str, opened: Sequence[Opened]) -> Genealogy:
    """The lot and what is opened of its genealogy. Names no dispense."""
    reader = _Reader(backend, opened)
    (root, above), (_, below) = await asyncio.gather(
        reader.around(lot, UP, frozenset()), reader.around(lot, DOWN, frozenset())
    )
    seen = tuple(one for one in opened if one in reader.used)
    return Genealogy(_lot(root, 0), above, below, seen)


async def search(backend: Backend, lot: str, text: str) -> tuple[list[Found], bool]:
    """Lots of the genealogy whose key has the text, the nearest first, and whether all was looked through."""
    answer = await backend.ask("traceability", "FindInGenealogy", lot=lot, text=text, most=MOST_FOUND)
    found = [Found(one.lot, _WAYS.get(one.step, ""), tuple(one.way)) for one in answer.lots]
    return found, answer.complete


class _Reader:
    """Asks for what is opened, and notes what of it was there."""

    def __init__(self, backend: Backend, opened: Sequence[Opened]) -> None:
        self._backend = backend
        self._opened: dict[tuple[str, str], list[Opened]] = {}
        for one in opened:
            self._opened.setdefault((one.way, one.lot), []).append(one)
        self.used: set[Opened] = set()

    async def around(self, lot: str, way: str, path: frozenset[str]) -> tuple[Any, tuple[Group, ...]]:
        """What the trace says of a lot, and the groups next to it; `path` are lots that led here."""
        opened = self._opened.get((way, lot), [])
        pages = [one for one in opened if one.kind]
        answers = await asyncio.gather(*(self._ask(one) for one in pages or [Opened(way, lot)]))
        told = dict(zip((one.kind for one in pages), answers, strict=False))
        alone = bool(path) and len(answers[0].kinds) == 1
        if alone and not told:  # nothing to choose: its one kind is opened with the lot
            only = answers[0].kinds[0].kind
            told[only] = await self._ask(Opened(way, lot, only))
        groups = [
            replace(await self._group(lot, way, kind, told.get(kind.kind), path), alone=alone)
            for kind in answers[0].kinds
        ]
        kinds = {kind.kind for kind in answers[0].kinds}
        self.used.update(one for one in opened if not one.kind or one.kind in kinds)
        return answers[0].lot, tuple(groups)

    async def _ask(self, one: Opened) -> Any:
        fields: dict[str, Any] = {
            "lot": one.lot,
            "step": _STEPS[one.way],
            "kind": one.kind,
            "page_size": PAGE,
        }
        try:
            return await self._backend.ask("traceability", "ListNeighbours", page_token=one.token, **fields)
        except Refused as refused:
            if refused.field != "page_token":
                raise
        return await self._backend.ask("traceability", "ListNeighbours", **fields)

    async def _group(self, of: str, way: str, kind: Any, told: Any, path: frozenset[str]) -> Group:
        if told is None:
            return Group(of, way, kind.kind, kind.lots)
        lots = await asyncio.gather(*(self._next(one, way, path | {of}) for one in told.lots))
        after = kind.lots - told.before - len(lots)
        following = _split(told.next_page_token)[1]
        return Group(of, way, kind.kind, kind.lots, True, tuple(lots), told.before, max(0, after), following)

    async def _next(self, told: Any, way: str, path: frozenset[str]) -> Lot:
        onward = told.outputs if way == DOWN else told.inputs
        if (way, told.lot) not in self._opened or told.lot in path or not onward:
            return _lot(told, onward)
        _, groups = await self.around(told.lot, way, path)
        return _lot(told, onward, groups)


def _lot(told: Any, onward: int, groups: tuple[Group, ...] = ()) -> Lot:
    return Lot(
        told.lot,
        known=told.known,
        suspect=told.suspect,
        onward=onward,
        withheld=told.inputs_withheld,
        opened=bool(groups),
        groups=groups,
    )
