"""The days that the reliability worlds play on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pharmaloop.common.v1 import types_pb2 as common

START = datetime(2026, 2, 1, tzinfo=UTC)


def moment(hours: float) -> common.Moment:
    """So many hours after the start, in China's zone."""
    made = common.Moment(offset_minutes=480)
    made.at.FromDatetime(START + timedelta(hours=hours))
    return made
