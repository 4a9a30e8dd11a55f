"""One module for each page: a router, and what the page shows as plain values."""

from services.portal.pages import (
    alerts,
    capas,
    deviations,
    hypotheses,
    lineage,
    lots,
    me,
    packs,
    run,
    runs,
    search,
    sets,
    site_records,
    sites,
    status,
    studies,
    transfers,
    wall,
)

#: In the order in which paths are matched.
ROUTERS = (
    runs.router,
    run.router,
    alerts.router,
    capas.router,
    deviations.router,
    hypotheses.router,
    lineage.router,
    lots.router,
    packs.router,
    search.router,
    sets.router,
    sites.router,
    site_records.router,
    status.router,
    studies.router,
    transfers.router,
    wall.router,
    me.router,
)
