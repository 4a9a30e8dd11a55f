"""Rows of transfers and lines that people page through, each with its history."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain import transfer
from services.production.domain.transfer import Transfer, TransferState, parts_of


@dataclass(frozen=True)
class Moment:
    """Something that happened to a version: when (ISO, UTC), what, by whom, what was said of it, and what
    the signature means where somebody signed it with one."""

    at: str
    version: int
    event: str
    actor: str
    statement: str
    meaning: str = ""


@dataclass(frozen=True)
class TransferRow(Transfer):
    """A transfer with what it is searched by. `state` is that of its newest version, `at` when it came
    to be so (ISO, UTC)."""

    plant: str = ""
    state: TransferState = "opened"
    at: str = ""
    history: tuple[Moment, ...] = ()


@dataclass(frozen=True)
class LineRow:
    """A line; `registered` keeps its newest LineRegistered."""

    plant: str
    registered: bytes

    def message(self) -> events.LineRegistered:
        return events.LineRegistered.FromString(self.registered)


def moved(row: TransferRow | None, event: Message, at: str) -> TransferRow:
    """The row after one more event of its transfer."""
    known: Any = event
    held = row or TransferRow(known.transfer, plant=parts_of(known.transfer)[1])
    after = transfer.changed(held, event)
    version = getattr(known, "version", 0) or held.newest.version
    actor, meaning = getattr(known, "actor", ""), getattr(known, "meaning", "")
    moment = Moment(at, version, type(event).__name__, actor or "platform", _said(event), meaning)
    state = after.newest.state
    since = held.at if row is not None and state == held.state and version != after.newest.version else at
    return replace(after, state=state, at=since, history=(*held.history, moment))


def _said(event: Message) -> str:
    """What the event says, in a sentence."""
    match event:
        case events.TwinAdapted():
            said = _adapted(event)
        case events.TransferRefused():
            said = "; ".join(reason.statement for reason in event.reasons)
        case events.OptimisationProposed() if not event.moved:
            said = "nothing better was found; the adapted recipe stays"
        case events.OptimisationProposed():
            said = f"moves {', '.join(event.moved)} for {event.attribute}"
        case events.OptimisationDecided():
            said = ": ".join(filter(None, ("accepted" if event.accepted else "refused", event.reason)))
        case events.RecipeValidated():
            said = f"{event.record}: {event.statement}"
        case events.RecipeFilingAssessed():
            said = event.statement
        case events.RecipeEffective():
            said = "lots may be made by the recipe"
        case events.TransferOutcomeRecorded():
            said = f"lot {event.lot} is tested"
        case events.TransferOutcomeWithheld():
            said = f"lot {event.lot}: {event.statement}"
        case events.TransferEnded():
            said = event.reason
        case _:
            raise TypeError(f"no row of transfers folds {type(event).__name__}")
    return said


def _adapted(event: events.TwinAdapted) -> str:
    said = f"adapted to line {event.line} by {event.model}"
    if not event.not_modelled:
        return said
    return f"{said}; not modelled, carried over as is: {', '.join(event.not_modelled)}"


def registered(event: events.LineRegistered) -> LineRow:
    return LineRow(event.plant, event.SerializeToString(deterministic=True))
