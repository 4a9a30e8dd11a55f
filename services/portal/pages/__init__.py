"""One module for each page: a router, and what the page shows as plain values."""

from services.portal.pages import hypotheses, me, runs, search, sets, sites, studies, transfers

#: In the order in which paths are matched.
ROUTERS = (
    runs.router,
    sites.router,
    transfers.router,
    studies.router,
    hypotheses.router,
    sets.router,
    search.router,
    me.router,
)
