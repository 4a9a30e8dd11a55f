"""One module for each page: a router, and what the page shows as plain values."""

from services.portal.pages import alerts, lineage, me, run, runs, sites, status, transfers

#: In the order in which paths are matched.
ROUTERS = (
    runs.router,
    run.router,
    sites.router,
    transfers.router,
    alerts.router,
    status.router,
    lineage.router,
    me.router,
)
