"""One module for each page: a router, and what the page shows as plain values."""

from services.portal.pages import capas, deviations, lots, me, runs, sites, studies, transfers, wall

#: In the order in which paths are matched.
ROUTERS = (
    runs.router,
    deviations.router,
    capas.router,
    lots.router,
    wall.router,
    sites.router,
    transfers.router,
    studies.router,
    me.router,
)
