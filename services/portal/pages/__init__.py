"""One module for each page: a router, and what the page shows as plain values."""

from services.portal.pages import (
    alerts,
    hypotheses,
    lineage,
    me,
    run,
    runs,
    search,
    sets,
    sites,
    status,
    studies,
    transfers,
)

#: In the order in which paths are matched.
ROUTERS = (
    runs.router,
    run.router,
    alerts.router,
    hypotheses.router,
    lineage.router,
    search.router,
    sets.router,
    sites.router,
    status.router,
    studies.router,
    transfers.router,
    me.router,
)
