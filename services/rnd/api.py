"""The gRPC face of rnd."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pharmaloop.rnd.v1 import service_pb2 as api
from pharmaloop.rnd.v1 import service_pb2_grpc as api_grpc
from services.kit.rpc.api import Api
from services.kit.rpc.status import timestamp
from services.rnd.domain.insights import InsightView
from services.rnd.views import INSIGHTS


class RndApi(Api, api_grpc.RndServiceServicer):
    async def ListInsights(self, request: api.ListInsightsRequest, context: Any) -> api.ListInsightsResponse:
        await self.reach(request)
        filters = {"product": request.product, "parameter": request.parameter}
        page = await self.page(request, INSIGHTS, filters, "at", descending=True)
        insights = [_insight(item.state) for item in page.items]
        return api.ListInsightsResponse(insights=insights, next_page_token=page.token)


def _insight(view: InsightView) -> api.Insight:
    return api.Insight(
        insight=view.insight,
        product=view.product,
        parameter=view.parameter,
        statement=view.statement,
        run=view.run,
        lot=view.lot,
        at=timestamp(datetime.fromisoformat(view.at)),
    )
