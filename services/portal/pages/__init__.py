"""One module for each page: a router, and what the page shows as plain values."""

from services.portal.pages import (
    alerts,
    capas,
    deviations,
    genealogy,
    hypotheses,
    lineage,
    lot_decisions,
    lots,
    me,
    run,
    runs,
    search,
    sets,
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
    lot_decisions.router,
    genealogy.router,
    lots.router,
    search.router,
    sets.router,
    sites.router,
    status.router,
    studies.router,
    transfers.router,
    wall.router,
    me.router,
)
