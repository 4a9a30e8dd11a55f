"""Judges laboratory results: opens investigations and trend reviews on the lots that were tested."""

from __future__ import annotations

from datetime import UTC
from typing import cast

from pharmaloop.production.v1 import events_pb2 as events
from services.kit.envelope import Event
from services.kit.ids import derived_id, product_of
from services.kit.work import Work, moment_text
from services.production.domain import laboratory, trend
from services.production.domain.trend import Measured, Trend
from services.production.views import LOTS, TRENDS, trend_id


def on_test_result_recorded(work: Work, event: Event) -> None:
    """A result of a lot that is not known yet waits for it."""
    recorded = cast(events.TestResultRecorded, event.message)
    lot = work.require(LOTS, recorded.lot)
    at = moment_text(recorded.at.at.ToDatetime(UTC))
    held = work.get(TRENDS, _trend_id(recorded)) or Trend(recorded.unit)
    investigation, retest = derived_id("investigation", event.id), trend.retest(held, lot.lot, at)
    for decided in laboratory.investigate(lot, recorded, event.id, investigation, at, retest):
        work.apply(LOTS, recorded.lot, decided)
    if not laboratory.broken(recorded):
        _compare(work, held, recorded, Measured(at, event.id, recorded.value, recorded.lot))


def _trend_id(recorded: events.TestResultRecorded) -> str:
    return trend_id(product_of(recorded.lot), recorded.test)


def _compare(work: Work, held: Trend, recorded: events.TestResultRecorded, tested: Measured) -> None:
    if held.unit != recorded.unit:  # two first results at the same moment: only one names the unit
        return
    work.put(TRENDS, _trend_id(recorded), trend.taken(held, tested))
    for decided in trend.review(held, tested, recorded):
        work.apply(LOTS, recorded.lot, decided)
