"""The facts that the throughput benchmarks move: small readings of many lots.

Deterministic: fact `i` of a load is the same in every process, so that whoever
checks a result can say what the last state of each lot must be.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pharmaloop.production.v1 import events_pb2 as production
from services.kit.ids import lot_key

TOPIC = "pharmaloop.production.readings.v1"
KEYS = 50_000
_BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
#: Prime to every number of keys that is used, so that all keys come, far apart.
_STRIDE = 7_919


def key_of(index: int, keys: int = KEYS) -> str:
    return lot_key("acme", "gtin", "09506000134352", f"L{index * _STRIDE % keys:06}")


def value_of(index: int) -> float:
    """Tells the facts of one lot apart: the last one holds."""
    return float(index)


def time_of(index: int) -> datetime:
    return _BEGAN + timedelta(milliseconds=index)


def message(index: int, keys: int = KEYS) -> production.ReadingsRecorded:
    """A reading of one tag: about 110 bytes, as a historian sends them."""
    fact = production.ReadingsRecorded(
        equipment="dryer-1",
        lot=key_of(index, keys),
        offsets_ms=[0],
        tags=[production.TagReadings(tag="JacketTemperature", unit="Cel", values=[value_of(index)])],
    )
    fact.start.at.FromMilliseconds(int(_BEGAN.timestamp() * 1000) + index)
    return fact


def last_values(count: int, keys: int = KEYS) -> dict[str, float]:
    """What a read model of the first `count` facts must hold."""
    return {key_of(index, keys): value_of(index) for index in range(max(0, count - keys), count)}


def messages(first: int, count: int, keys: int = KEYS) -> Iterator[production.ReadingsRecorded]:
    for index in range(first, first + count):
        yield message(index, keys)
