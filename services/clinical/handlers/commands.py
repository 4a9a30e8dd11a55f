"""What the site tells itself: that it takes part, and that a follow-up is over."""

from __future__ import annotations

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.clinical.domain import holdings, moments, sites, statements
from services.clinical.handlers.here import Here, holding_of
from services.clinical.handlers.settle import settle
from services.clinical.views import SITES
from services.kit.work import Work


def register_site(work: Work, request: clinical.SiteRegistered) -> Message:
    for registered in sites.register(work.get(SITES, request.site), request):
        work.apply(SITES, request.site, registered)
    return request


def end_follow_up(here: Here, work: Work, request: clinical.MonitoringPlan) -> Message:
    """The clock passed the due time of a run's last plan: who has not answered will not be waited for."""
    holding = holding_of(here, work, request.run)
    over = holdings.follow_up_over(holding, moments.text_of(request.due))
    return statements.summary(settle(here, work, over), here.site)
