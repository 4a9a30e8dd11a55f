"""Moments as events carry them and as states keep them."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp


def text_of(stamp: Timestamp) -> str:
    """ISO text, UTC, that sorts in time order."""
    return stamp.ToDatetime(tzinfo=UTC).isoformat(timespec="microseconds")


def stamp_of(text: str) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.fromisoformat(text))
    return stamp
