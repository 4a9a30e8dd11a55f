"""Rows of the list of studies, from the study's own events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message

from pharmaloop.exchange.v1 import events_pb2 as events
from services.exchange.views import ROWS, StudyRow
from services.kit.envelope import Event
from services.kit.runners.reactor import Row
from services.kit.work import moment_text


def _study(event: Event) -> str:
    return str(getattr(event.message, "study", ""))


def _requested(row: StudyRow | None, event: Event) -> StudyRow:
    message: Any = event.message
    return StudyRow(message.study, moment_text(event.time), "requested", tuple(message.sites))


def _approved(row: StudyRow | None, event: Event) -> StudyRow:
    message: Any = event.message
    before = row or StudyRow(message.study, "", "", ())
    approved = tuple(sorted({*before.approved, message.site}))
    everybody = set(before.sites) <= set(approved)
    return replace(before, approved=approved, state="approved" if everybody else before.state)


def _becomes(state: Callable[[Any], str]) -> Callable[[StudyRow | None, Event], StudyRow]:
    def fold(row: StudyRow | None, event: Event) -> StudyRow:
        before = row or StudyRow(_study(event), "", "", ())
        return replace(before, state=state(event.message))

    return fold


_STATES: dict[type[Message], Callable[[Any], str]] = {
    events.StudyRefused: lambda _: "refused",
    events.StudyStopped: lambda _: "stopped",
    events.StudyExpired: lambda _: "expired",
    events.JobOpened: lambda _: "computing",
    events.JobEnded: lambda ended: "suspended" if ended.suspended else "failed",
    events.InsightPublished: lambda _: "answered",
}

ROWS_OF: dict[type[Message], Row[StudyRow]] = {
    events.StudyRequested: Row(ROWS, _study, _requested),
    events.StudyApproved: Row(ROWS, _study, _approved),
    **{cls: Row(ROWS, _study, _becomes(state)) for cls, state in _STATES.items()},
}
