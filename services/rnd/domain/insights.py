"""What research keeps of an insight, and how its events change it."""

from __future__ import annotations

from dataclasses import dataclass

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.sayings import kept


@dataclass(frozen=True)
class InsightRecord:
    """That research took an insight; the aggregate behind InsightRecorded."""

    insight: str
    run: str


@dataclass(frozen=True)
class InsightView:
    """An insight as research reads it. `at` is platform time, ISO, UTC; `sayings` are the
    parts of the statement."""

    insight: str
    product: str
    parameter: str
    statement: str
    run: str
    lot: str
    at: str
    sayings: tuple[bytes, ...] = ()


def evolve(state: InsightRecord | None, event: object) -> InsightRecord:
    """The record after one of its own events."""
    assert isinstance(event, rnd.InsightRecorded)
    return InsightRecord(event.insight, event.run)


def take(state: InsightRecord | None, published: production.InsightPublished) -> list[rnd.InsightRecorded]:
    """Research takes an insight once."""
    if state is not None:
        return []
    return [
        rnd.InsightRecorded(
            insight=published.insight,
            product=published.product,
            parameter=published.parameter,
            run=published.run,
        )
    ]


def view(published: production.InsightPublished, at: str) -> InsightView:
    """The row that research reads."""
    return InsightView(
        insight=published.insight,
        product=published.product,
        parameter=published.parameter,
        statement=published.statement,
        run=published.run,
        lot=published.lot,
        at=at,
        sayings=kept(published.statement_sayings),
    )
