"""Keeps the events that join things, and reads the lineage of a thing from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from pharmaloop.traceability.v1 import service_pb2 as api
from services.kit.contracts import contract
from services.kit.envelope import Event
from services.kit.errors import Invalid, Unknown
from services.kit.ids import in_kit
from services.kit.runners.reactor import Row, Rows
from services.kit.store.protocol import AsyncStore
from services.kit.work import moment_text
from services.traceability.domain.lineage import links
from services.traceability.domain.lineage.links import JOINS, KINDS, Hop
from services.traceability.domain.lineage.walk import Walk
from services.traceability.domain.moments import earliest, stamp
from services.traceability.views import HOPS

_USUAL, _MOST = 1000, 5000
#: So many things are asked for by one query.
_TOGETHER = 200


@cache
def _service(type: str) -> str:
    return contract().topic_of(type).owner


def _kept(held: Hop | None, event: Event) -> Hop:
    """What an event joins is kept once: of a second record of it, only that it was earlier may be news."""
    recorded = moment_text(event.created)
    if held is not None:
        return replace(held, recorded=earliest(held.recorded, recorded))
    found = links.link(event.message, in_kit)
    names = {*found.froms, *found.tos, *found.about}
    return Hop(
        event=event.id,
        type=event.type,
        service=_service(event.type),
        at=moment_text(event.time),
        cause=event.cause,
        froms=found.froms,
        tos=found.tos,
        about=found.about,
        ids=tuple(sorted({links.id_of(name) for name in names})),
        recorded=recorded,
        site=links.site_of(event.message),
        plant_at=links.plant_time(event.message),
    )


_HOP = Row(HOPS, lambda event: event.id, _kept)
HOP_ROWS: Rows = dict.fromkeys(JOINS, _HOP)


async def read(store: AsyncStore, id: str, kind: str, most: int) -> api.GetLineageResponse:
    """The lineage of whatever bears the id; Unknown when no event names it."""
    starts = await _starts(store, id, kind)
    if not 0 <= most <= _MOST:
        raise Invalid("OUT_OF_RANGE", f"ask for 1 to {_MOST} events", "most")

    async def find(field: str, names: Sequence[str], room: int, type: str) -> list[Hop]:
        found: dict[str, Hop] = {}
        if type:
            for name in names:
                page = await store.page(HOPS, {field: name, "type": type}, "at", False, "", room)
                found |= {item.id: item.state for item in page.items}
            return list(found.values())
        for start in range(0, len(names), _TOGETHER):
            some = await store.among(HOPS, field, names[start : start + _TOGETHER], room)
            found |= {item.id: item.state for item in some}
            if len(found) >= room:
                break
        return list(found.values())

    walk = Walk(find, most or _USUAL)
    await walk.whole(starts)
    return api.GetLineageResponse(
        of=[_thing(name) for name in starts],
        hops=[_shown(hop) for hop in walk.in_order()],
        truncated=walk.truncated,
    )


async def _starts(store: AsyncStore, id: str, kind: str) -> list[str]:
    """The things that bear the id."""
    if not id:
        raise Invalid("REQUIRED", "name a thing: a molecule, a lot, a run, a study, whatever has an id", "id")
    if kind and kind not in KINDS:
        raise Invalid("UNKNOWN_CODE", f"a kind is one of {', '.join(KINDS)}", "kind")
    named = {
        name
        for item in await store.among(HOPS, "ids", [id], _MOST)
        for name in (*item.state.froms, *item.state.tos, *item.state.about)
        if links.id_of(name) == id and kind in ("", links.kind_of(name))
    }
    if not named:
        what = f"{kind} {id!r}" if kind else repr(id)
        raise Unknown("UNKNOWN_THING", f"no event that may be shown names {what}", "id")
    return sorted(named)


def _thing(name: str) -> api.LineageThing:
    return api.LineageThing(kind=links.kind_of(name), id=links.id_of(name))


def _shown(hop: Hop) -> api.LineageHop:
    return api.LineageHop(
        event=hop.event,
        type=hop.type,
        service=hop.service,
        at=stamp(hop.at),
        recorded_at=stamp(hop.recorded),
        cause=hop.cause,
        comes_from=[_thing(name) for name in hop.froms or hop.about],
        leads_to=[_thing(name) for name in hop.tos],
        site=hop.site,
        plant_at=stamp(hop.plant_at),
    )
