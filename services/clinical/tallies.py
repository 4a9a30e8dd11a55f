"""Where the patients of a site's runs are: counted from what the site holds of each run that goes on."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from services.clinical.domain.holdings import Holding
from services.clinical.domain.plans import Notice, Stage
from services.clinical.handlers import Here
from services.clinical.views import ALL_RUNS, GOING, HOLDINGS
from services.kit.clock import Clock
from services.kit.metrics import DIGEST_MISMATCHES, NOTICES, PLANS, Metrics
from services.kit.store.protocol import AsyncStore
from services.kit.tallies import Tally

STAGES: tuple[str, ...] = get_args(Stage)
#: Before the hazard is evaluated nobody tells them.
UNEVALUATED = "unevaluated"
#: Nobody need tell a patient without a notice.
STATES: tuple[str, ...] = (UNEVALUATED, *filter(None, get_args(Notice)))


def tally_of(here: Here) -> Tally:
    """The count of one site, which is known when the service has started."""

    async def tally(store: AsyncStore, _clock: Clock, metrics: Metrics) -> None:
        tell(metrics, here.site, await going(store, here))

    return tally


async def going(store: AsyncStore, here: Here) -> list[Holding]:
    """What the site holds of the runs that go on."""
    found = await store.get(GOING, ALL_RUNS)
    ids = [here.id_of(run) for run in found.state.runs] if found else []
    return [one.state for one in await store.among(HOLDINGS, "_id", ids)] if ids else []


def tell(metrics: Metrics, site: str, holdings: list[Holding]) -> None:
    """Sum what the runs count. Every stage and state is told, so that one that empties says 0."""
    stages, states = Counter[str](), Counter[str]()
    for holding in holdings:
        stages.update({stage: count.patients for stage, count in holding.stages.items()})
        told = dict(holding.notices)
        if holding.hazard is None:
            told[UNEVALUATED] = told.pop("owed", 0)
        states.update(told)
    for stage in STAGES:
        metrics.set(PLANS, stages[stage], site=site, stage=stage)
    for state in STATES:
        metrics.set(NOTICES, states[state], site=site, state=state)
    differ = sum(holding.announced is not None and not holding.matched for holding in holdings)
    metrics.set(DIGEST_MISMATCHES, differ, site=site)
