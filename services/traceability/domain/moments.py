"""Moments as the states keep them: ISO text in UTC that sorts in time order.

A moment that no calendar knows reads as not given: a fact that names one is
stored like any other, for a dispense is never lost to a bad date.
"""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.common.v1 import types_pb2 as common

_EPOCH = datetime.fromtimestamp(0, UTC)


def iso(stamp: Timestamp) -> str:
    """The moment as text; empty when it is outside the calendar."""
    try:
        return stamp.ToDatetime(tzinfo=UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError):
        return ""


def when(moment: common.Moment) -> str:
    """The moment in UTC as text; empty when it was not given."""
    return iso(moment.at) if moment.HasField("at") else ""


def stamp(text: str) -> Timestamp | None:
    """The text as a timestamp; None when it was not given."""
    if not text:
        return None
    since = datetime.fromisoformat(text) - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def earliest(*moments: str) -> str:
    """The first of the moments that were given."""
    return min((moment for moment in moments if moment), default="")
