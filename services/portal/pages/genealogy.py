"""What went into a lot and what was made from it, opened step by step; what is open is in the address."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from services.portal import genealogies
from services.portal.addresses import path_of as path
from services.portal.backend import Backend
from services.portal.drawing.genealogy import Look, drawing
from services.portal.genealogies import DOWN, UP, Genealogy, Group, Opened
from services.portal.keys import LOT
from services.portal.languages import Language
from services.portal.render import page

router = APIRouter()
_LONGEST = 200
_OPEN = Query(default=[], alias="open")


@router.get(LOT + "/genealogy")
async def genealogy(request: Request, key: str, q: str = "", told: list[str] = _OPEN) -> Response:
    """The drawing of what is opened, and where in the genealogy a search found lots."""
    backend: Backend = request.app.state.backend
    language: Language = request.state.language
    looked_for = " ".join(q.split())[:_LONGEST]
    found = await genealogies.read(backend, key, genealogies.parse(told[:_LONGEST]))
    hits, complete = await genealogies.search(backend, key, looked_for) if looked_for else ([], True)
    own = path("lots", key, "genealogy")

    def to(opened: Iterable[Opened], at: str = "groups") -> str:
        pairs = [("open", str(one)) for one in opened]
        query = urlencode(pairs + ([("q", looked_for)] if looked_for else []))
        return f"{own}?{query}#{at}" if query else f"{own}#{at}"

    values = {
        "key": key,
        "own": own,
        "root": found.root,
        "q": looked_for,
        "opened": [str(one) for one in found.opened],
        "hits": [(hit, to(genealogies.with_open(found.opened, *genealogies.way_to(hit)))) for hit in hits],
        "complete": complete,
        "sides": [(_step(language, UP, 1), found.above), (_step(language, DOWN, 1), found.below)],
        "groups": list(_opened(found)),
        "step": lambda way, steps: _step(language, way, steps),
        "opens": lambda group: to(
            genealogies.with_open(found.opened, Opened(group.way, group.of, group.kind))
        ),
        "closed": to(()),
        "drawing": drawing(
            found,
            label=language.say("Genealogy of %(lot)s", lot=key),
            look=_look(language, found.opened, to),
            hits={hit.lot for hit in hits},
        ),
    }
    return page(request, "genealogy.html", values)


def _opened(found: Genealogy) -> Iterator[tuple[int, Group]]:
    """Every group that is open with its steps from the lot, those above first."""

    def within(groups: Sequence[Group], steps: int) -> Iterator[tuple[int, Group]]:
        for group in groups:
            if group.opened:
                yield steps, group
            for lot in group.shown:
                yield from within(lot.groups, steps + 1)

    yield from within(found.above, 1)
    yield from within(found.below, 1)


def _look(language: Language, opened: Sequence[Opened], to: Callable[[Iterable[Opened]], str]) -> Look:
    say = language.say
    return Look(
        step=lambda steps: _step(language, UP if steps < 0 else DOWN, abs(steps)),
        lots=lambda number: say("Lots: %(n)s", n=language.count(number)),
        more=lambda number: say("%(n)s more", n=language.count(number)),
        before=lambda number: say("%(n)s before these", n=language.count(number)),
        to=lambda lot: path("lots", lot),
        opens=lambda one: to(genealogies.with_open(opened, one)),
        closes=lambda one: to(genealogies.without(opened, one)),
        open=lambda name: say("Open %(what)s", what=name),
        close=lambda name: say("Close %(what)s", what=name),
        count=language.count,
    )


def _step(language: Language, way: str, steps: int) -> str:
    if steps == 0 or not way:
        return language.say("This lot")
    if way == UP:
        return language.say("Went into it, step %(n)s", n=steps)
    return language.say("Made from it, step %(n)s", n=steps)
