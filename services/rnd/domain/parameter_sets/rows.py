"""Versions of parameter sets as people page through them: who did what, and when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from google.protobuf.message import Message

from pharmaloop.rnd.v1 import events_pb2 as events
from services.rnd.domain.parameter_sets.model import State
from services.sayings import kept

Changes: TypeAlias = (
    events.ParameterSetReviewed
    | events.ParameterSetReleased
    | events.ParameterSetSuperseded
    | events.ParameterSetWithdrawn
    | events.ReviewRequested
)


@dataclass(frozen=True)
class ReleaseRow:
    """A release to a plant; `payload_hash` in hexadecimal, `at` ISO text, UTC."""

    plant: str
    payload_hash: str
    actor: str
    meaning: str
    at: str
    superseded_by: int = 0


@dataclass(frozen=True)
class AskedRow:
    """A review that was asked for; `sayings` are the parts of the reason."""

    reason: str
    capa: str
    parameter: str
    at: str
    sayings: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class VersionRow:
    """A version with its signatures; `at` is its latest change, `content` the Sealed of what it says."""

    set: str
    version: int
    product: str
    state: State
    at: str
    trial: str
    content: bytes
    content_hash: str
    changes: tuple[str, ...]
    drafter: str
    drafted: str
    reviewer: str = ""
    review_meaning: str = ""
    reviewed: str = ""
    releases: tuple[ReleaseRow, ...] = ()
    withdrawn_by: str = ""
    withdrawal_reason: str = ""
    withdrawn: str = ""
    withdrawal_meaning: str = ""
    asked: tuple[AskedRow, ...] = ()


def row_id(set: str, version: int) -> str:
    return f"{set}|{version}"


def drafted(event: events.ParameterSetDrafted, at: str) -> VersionRow:
    """The row of a new version."""
    return VersionRow(
        set=event.set,
        version=event.version,
        product=event.product,
        state="draft",
        at=at,
        trial=event.trial,
        content=event.content.SerializeToString(deterministic=True),
        content_hash=event.content_hash.hex(),
        changes=tuple(event.changes),
        drafter=event.actor,
        drafted=at,
    )


def changed(row: VersionRow | None, event: Message, at: str) -> VersionRow:
    """The row after any other event of its version."""
    assert row is not None, f"{type(event).__name__} before its draft"
    row = replace(row, at=at)
    match event:
        case events.ParameterSetReviewed():
            return replace(
                row, state="reviewed", reviewer=event.actor, review_meaning=event.meaning, reviewed=at
            )
        case events.ParameterSetReleased():
            one = ReleaseRow(event.plant, event.payload_hash.hex(), event.actor, event.meaning, at)
            return replace(row, state="released", releases=(*row.releases, one))
        case events.ParameterSetSuperseded():
            return _superseded(row, event)
        case events.ParameterSetWithdrawn():
            return replace(
                row,
                state="withdrawn",
                withdrawn_by=event.actor,
                withdrawal_reason=event.reason,
                withdrawal_meaning=event.meaning,
                withdrawn=at,
            )
        case events.ReviewRequested():
            parts = kept(event.reason_sayings)
            asked = AskedRow(event.reason, event.capa, event.parameter, at, parts)
            return replace(row, asked=(*row.asked, asked))
    return row


def _superseded(row: VersionRow, event: events.ParameterSetSuperseded) -> VersionRow:
    releases = tuple(
        replace(one, superseded_by=event.by_version) if one.plant == event.plant else one
        for one in row.releases
    )
    over = all(one.superseded_by for one in releases)
    return replace(row, releases=releases, state="superseded" if over else row.state)
