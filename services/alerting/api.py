"""The gRPC face of alerting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Any

from pharmaloop.alerting.v1 import events_pb2 as events
from pharmaloop.alerting.v1 import service_pb2 as api
from pharmaloop.alerting.v1 import service_pb2_grpc as api_grpc
from services.alerting.domain.alerts import Alert
from services.alerting.views import ALERTS
from services.kit.contracts import event_type
from services.kit.rpc.api import Api
from services.kit.rpc.changes import as_they_stand, of_types
from services.kit.rpc.context import caller
from services.kit.rpc.status import timestamp

_ALERT_EVENTS = [
    event_type(event) for event in (events.AlertRaised, events.AlertRepeated, events.AlertAcknowledged)
]
_SNAPSHOT_PAGE = 200


class AlertingApi(Api, api_grpc.AlertingServiceServicer):
    async def ListAlerts(self, request: api.ListAlertsRequest, context: Any) -> api.ListAlertsResponse:
        await self.reach(request)
        filters = {"open": True if request.only_open else None, "kind": request.kind or None}
        page = await self.page(request, ALERTS, filters, "at", descending=True)
        return api.ListAlertsResponse(
            alerts=[_alert(item.state) for item in page.items], next_page_token=page.token
        )

    async def WatchAlerts(
        self, request: api.WatchAlertsRequest, context: Any
    ) -> AsyncIterator[api.WatchAlertsResponse]:
        watching = self.app.watching
        topics = watching.topics(_ALERT_EVENTS)
        following = watching.follow(topics, request.after, of_types(_ALERT_EVENTS), actor=caller().actor)
        first = None if request.after.positions else self._open
        async with aclosing(as_they_stand(following, first, self._stored)) as standing:
            async for alert, position, lag in standing:
                yield api.WatchAlertsResponse(alert=alert, position=position, lag=lag)

    async def _open(self) -> AsyncIterator[api.Alert]:
        """The open alerts as they stand, the oldest first."""
        token = ""
        while True:
            page = await self.app.store.page(ALERTS, {"open": True}, "at", False, token, _SNAPSHOT_PAGE)
            for item in page.items:
                yield _alert(item.state)
            if not (token := page.token):
                return

    async def _stored(self, alert: str) -> api.Alert | None:
        found = await self.app.store.get(ALERTS, alert)
        return _alert(found.state) if found else None

    async def AcknowledgeAlert(
        self, request: api.AcknowledgeAlertRequest, context: Any
    ) -> api.AcknowledgeAlertResponse:
        return await self.decide("AcknowledgeAlert", request, api.AcknowledgeAlertResponse)


def _alert(state: Alert) -> api.Alert:
    alert = api.Alert(
        raised=events.AlertRaised.FromString(state.raised),
        actor=state.actor,
        note=state.note,
        count=state.count,
        latest=timestamp(datetime.fromisoformat(state.at)),
        latest_text=state.text,
    )
    if state.acknowledged:
        alert.acknowledged.CopyFrom(timestamp(datetime.fromisoformat(state.acknowledged)))
    return alert
