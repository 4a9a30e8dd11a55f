"""The gRPC face of alerting."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pharmaloop.alerting.v1 import events_pb2 as events
from pharmaloop.alerting.v1 import service_pb2 as api
from pharmaloop.alerting.v1 import service_pb2_grpc as api_grpc
from services.alerting.domain.alerts import Alert
from services.alerting.views import ALERTS
from services.kit.rpc.api import Api
from services.kit.rpc.status import timestamp


class AlertingApi(Api, api_grpc.AlertingServiceServicer):
    async def ListAlerts(self, request: api.ListAlertsRequest, context: Any) -> api.ListAlertsResponse:
        await self.reach(request)
        filters = {"open": True if request.only_open else None, "kind": request.kind or None}
        page = await self.page(request, ALERTS, filters, "at", descending=True)
        return api.ListAlertsResponse(
            alerts=[_alert(item.state) for item in page.items], next_page_token=page.token
        )

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
