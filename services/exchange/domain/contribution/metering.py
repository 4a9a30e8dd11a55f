"""What an organisation put in: rows and bytes accepted, seconds of computing, storage. Once an event."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from services.exchange.domain.errors import Malformed, Refusal


@dataclass(frozen=True, slots=True)
class Usage:
    """Amounts of one event, or sums of many."""

    rows: int = 0
    bytes_: int = 0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    storage_byte_hours: float = 0.0
    queries: int = 0

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not (math.isfinite(value) and value >= 0):
                raise Malformed(
                    "BAD_AMOUNT", f"{one.name} is a finite amount of zero or more, not {value}", one.name
                )


@dataclass(frozen=True, slots=True)
class Meter:
    """Events by id, with the organisation and what it used."""

    events: Mapping[str, tuple[str, Usage]] = field(default_factory=dict)

    def total(self, organisation: str) -> Usage:
        """Sums over an organisation's events; of seconds the correctly rounded sum, whatever the order."""
        used = [usage for owner, usage in self.events.values() if owner == organisation]
        return Usage(
            rows=sum(one.rows for one in used),
            bytes_=sum(one.bytes_ for one in used),
            cpu_seconds=math.fsum(one.cpu_seconds for one in used),
            gpu_seconds=math.fsum(one.gpu_seconds for one in used),
            storage_byte_hours=math.fsum(one.storage_byte_hours for one in used),
            queries=sum(one.queries for one in used),
        )


def metered(meter: Meter, event_id: str, organisation: str, usage: Usage) -> Meter:
    """The meter with an event more; the same event again changes nothing, a changed one is refused."""
    known = meter.events.get(event_id)
    if known is None:
        return Meter({**meter.events, event_id: (organisation, usage)})
    if known != (organisation, usage):
        raise Refusal(
            "EVENT_CHANGED",
            f"event {event_id!r} was metered with other amounts: correct it by an event of its own",
            "event_id",
        )
    return meter
