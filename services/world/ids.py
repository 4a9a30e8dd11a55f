"""Request ids and messages that every actor makes alike.

A request id is derived from what the request says, so that a world that is
killed and started again repeats the same request, with one effect.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.common.v1 import types_pb2 as common
from services.kit.ids import derived_id

#: The sources' own clocks stand in Shanghai.
OFFSET = timedelta(hours=8)


def request_id(seed: int, *what: str) -> str:
    return derived_id("world", str(seed), *what)


def stamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def moment(at: datetime) -> common.Moment:
    """A moment as its source wrote it, with the source's offset."""
    return common.Moment(at=stamp(at), offset_minutes=int(OFFSET.total_seconds() // 60))


def short(lot: str) -> str:
    """The lot string alone, for lines that people read."""
    return lot.rsplit("/", 1)[-1]
