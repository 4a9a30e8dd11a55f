"""What the safety loop taught: recorded once."""

from __future__ import annotations

from typing import cast

from pharmaloop.production.v1 import events_pb2 as production
from services.kit.envelope import Event
from services.kit.work import Work, moment_text
from services.rnd.domain import insights
from services.rnd.views import INSIGHTS, RECORDS


def on_insight_published(work: Work, event: Event) -> None:
    published = cast(production.InsightPublished, event.message)
    for taken in insights.take(work.get(RECORDS, published.insight), published):
        work.apply(RECORDS, published.insight, taken)
    work.put(INSIGHTS, published.insight, insights.view(published, moment_text(event.time)))
