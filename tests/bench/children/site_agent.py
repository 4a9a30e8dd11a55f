"""The agent of a site as it is, but for its cohort, which is the benchmark's.

PHARMALOOP_AGENT_SITE=hospital-a python -m tests.bench.children.site_agent
"""

from __future__ import annotations

from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from services.exchange.site.main import make_spec
from services.exchange.site.source import CohortData
from services.kit.app import App, main
from tests.bench.framework.study import data


class _Source:
    def __init__(self, app: App) -> None:
        self._data = data(app.site)

    async def cohort(self, definition: cohort.CohortDefinition) -> CohortData:
        return self._data


if __name__ == "__main__":
    main(make_spec(_Source))
