"""Finds a lot, a run, a deviation, whatever pages are of, by what somebody types into one box."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as api
from services.kit.envelope import Event
from services.kit.errors import Invalid
from services.kit.runners.reactor import Row, Rows
from services.kit.store.protocol import AsyncStore
from services.traceability.domain import finding
from services.traceability.domain.finding import LONGEST, Thing, Wanted
from services.traceability.views import DISPENSES, THINGS

_USUAL = _MOST = 20
#: So many candidates are looked at: a beginning that more things share is not enough to tell them apart.
_CANDIDATES = 500
_LONGEST_TEXT = 400
_LONGEST_ABOUT = 120


def _lot(event: Event) -> Thing:
    return finding.lot(cast("production.LotStarted | events.MaterialRecorded", event.message).lot)


def _deviation(event: Event) -> Thing:
    said = cast(production.DeviationDetected, event.message)
    about = ", ".join(text for text in (said.tag, finding.parts(said.lot)[-1]) if text)
    return finding.thing("deviation", said.deviation, said.deviation, about, lot=said.lot)


def _capa(event: Event) -> Thing:
    said = cast(production.CapaProposed, event.message)
    about = ", ".join(text for text in (said.tag, finding.parts(said.lot)[-1]) if text)
    return finding.thing("capa", said.capa, said.capa, about, lot=said.lot)


def _transfer(event: Event) -> Thing:
    said = cast("production.TwinAdapted | production.TransferRefused", event.message)
    about = f"{said.set} {said.version}, {said.plant}"
    return finding.thing("transfer", said.transfer, said.transfer.removeprefix("transfer:"), about)


def _study(event: Event) -> Thing:
    said = cast(exchange.StudyRequested, event.message)
    return finding.thing("study", said.study, said.study, said.question[:_LONGEST_ABOUT])


def _run(event: Event) -> Thing:
    said = event.message
    if isinstance(said, loops.TransferRunOpened):
        about = f"transfer, {said.set} {said.version}, {said.plant}"
    elif isinstance(said, loops.EvidenceRunOpened):
        about = f"evidence, {said.study}"
    else:
        said = cast(loops.SafetyRunOpened, said)
        about = f"safety, {finding.parts(said.lot)[-1]}"
    return finding.thing("run", said.run, said.run, about)


def _row(made: Callable[[Event], Thing]) -> Row[Thing]:
    """A thing is called the same whoever speaks of it: the first that does makes its row."""

    def id_of(event: Event) -> str:
        found = made(event)
        return f"{found.kind}:{found.id}"

    return Row(THINGS, id_of, lambda held, event: held or made(event))


_LOT, _RUN, _TRANSFER = _row(_lot), _row(_run), _row(_transfer)
THING_ROWS: Rows = {
    production.LotStarted: _LOT,
    events.MaterialRecorded: _LOT,
    production.DeviationDetected: _row(_deviation),
    loops.SafetyRunOpened: _RUN,
    loops.TransferRunOpened: _RUN,
    loops.EvidenceRunOpened: _RUN,
    production.CapaProposed: _row(_capa),
    production.TwinAdapted: _TRANSFER,
    production.TransferRefused: _TRANSFER,
    exchange.StudyRequested: _row(_study),
}


async def find(store: AsyncStore, text: str, most: int) -> api.FindThingsResponse:
    """What the text may mean, exact matches first; nothing found is an empty answer."""
    if not 0 <= most <= _MOST:
        raise Invalid("OUT_OF_RANGE", f"ask for 1 to {_MOST} things", "most")
    if not text.strip():
        raise Invalid("REQUIRED", "type a lot, a pack, a run, a deviation or a dispense", "text")
    if len(text) > _LONGEST_TEXT:
        raise Invalid("TOO_LONG", f"type at most {_LONGEST_TEXT} characters", "text")
    asked = finding.wanted(text)
    found = {thing.id: thing for thing in await _candidates(store, asked) if finding.fits(thing, asked)}
    dispense = await store.get(DISPENSES, text.strip().lower())
    if dispense is not None:
        lot = dispense.state.lots[0] if dispense.state.lots else ""
        about = finding.parts(lot)[-1]
        found[dispense.id] = finding.thing("dispense", dispense.id, dispense.id, about, lot=lot)
    things = sorted(found.values(), key=lambda thing: finding.place(thing, asked))[: most or _USUAL]
    return api.FindThingsResponse(
        things=[
            api.FoundThing(
                kind=thing.kind,
                id=thing.id,
                label=thing.label,
                exact=finding.is_exact(thing, asked),
                lot=thing.lot,
            )
            for thing in things
        ]
    )


async def _candidates(store: AsyncStore, asked: Wanted) -> list[Thing]:
    """What bears the word whole, and what begins with it; of a pack, the lots of its lot string or GTIN."""
    if asked.gtin:
        word = finding.of_pack(asked.gtin, asked.word) if asked.word else asked.gtin
        return [item.state for item in await store.among(THINGS, "exact", [word], _CANDIDATES)]
    exact = await store.among(THINGS, "exact", asked.whole, _CANDIDATES)
    begun = await store.among(THINGS, "prefixes", [asked.word[:LONGEST]], _CANDIDATES)
    return [item.state for item in (*exact, *begun)]
