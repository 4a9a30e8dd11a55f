"""What one analyst may ask of one dataset, counted by the exchange and by the site, each for itself."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.api import ExchangeApi
from services.exchange.domain.disclosure.budget import Grant
from services.exchange.views import DATASETS
from services.kit.errors import Rejected
from services.refusals import Refusal
from tests.unit.exchange.consortium import Consortium, consortium
from tests.unit.exchange.hospitals import SITES
from tests.unit.exchange.test_differencing_jobs import FOUR, Hostile
from tests.unit.exchange.test_private_jobs import NOISE


async def _answered(found: Consortium, study: str, **changes: Any) -> None:
    found.request(study, **changes)
    found.approve(study)
    await found.step(study)


def _offered(found: Consortium, **grant: Any) -> None:
    """The owners of all sites say anew what one analyst may ask."""
    for site in found.sites:
        keys = found.site(site).keys
        asked = api.RegisterDatasetRequest(
            dataset=f"{site}/routine",
            site=site,
            title=site,
            covariates=[cohort.COVARIATE_SEX, cohort.COVARIATE_AGE_BAND],
            signing_key=keys.signing_key,
            mask_key=keys.mask_key,
            **{"queries_per_analyst": 100, **grant},
        )
        found.command("RegisterDataset", asked, f"owner of {site}")


async def _restarted(found: Consortium, grant: Grant) -> None:
    """All agents are started anew, with another grant in their settings."""
    for site in found.sites:
        await found.kill(site)
    found.grant = grant
    for site in found.sites:
        found.start(site)
    async with asyncio.timeout(5):
        while {one.grant for one in found.service.states(DATASETS).values()} != {grant}:
            await asyncio.sleep(0.001)
    await found.connected()


@pytest.mark.parametrize(
    ("grant", "reason", "field"),
    [
        ({"queries_per_analyst": 1}, "QUERIES_SPENT", "datasets"),
        ({"rounds_per_analyst": 1}, "ROUNDS_SPENT", "datasets"),
        ({"epsilon_per_analyst": 1.5}, "EPSILON_SPENT", "epsilon"),
    ],
)
async def test_a_study_beyond_the_budget_is_refused_when_it_is_requested(
    grant: dict[str, Any], reason: str, field: str
) -> None:
    async with consortium(SITES) as found:
        _offered(found, **grant)
        await _answered(found, "s1", **NOISE)
        assert found.study("s1").state == "answered"
        with pytest.raises(Rejected) as refused:
            found.request("s2", **NOISE)
        assert (refused.value.reason, refused.value.field) == (reason, field)
        assert "its owner" in refused.value.description
        _offered(found, **{name: 2 * value for name, value in grant.items()})
        await _answered(found, "s2", **NOISE)
        assert found.study("s2").state == "answered"


async def test_two_studies_requested_together_do_not_both_spend_the_last_epsilon() -> None:
    async with consortium(SITES) as found:
        _offered(found, epsilon_per_analyst=1.5)
        for study in ("s1", "s2"):
            found.request(study, **NOISE)
            found.approve(study)
        await found.step("s1")
        assert await found.step("s2") is not None
        assert (found.study("s1").state, found.study("s2").state) == ("answered", "approved")
        shown = await ExchangeApi(found.app, found.hub)._study("s2")
        assert shown is not None
        assert "EPSILON_SPENT" in shown.statement


@pytest.mark.parametrize(
    ("grant", "reason"),
    [
        (Grant(queries=1), "QUERIES_SPENT"),
        (Grant(queries=9, rounds=1), "ROUNDS_SPENT"),
        (Grant(queries=9, epsilon=1.5), "EPSILON_SPENT"),
    ],
)
async def test_a_site_counts_for_itself_and_its_refusal_reaches_who_asked(grant: Grant, reason: str) -> None:
    """The exchange knows of wider grants: the site does not believe it."""
    async with consortium(SITES) as found:
        await _restarted(found, grant)
        _offered(found)
        await _answered(found, "s1", **NOISE)
        assert found.study("s1").state == "answered"
        await _answered(found, "s2", **NOISE)
        (ended,) = found.ended()
        assert (ended.reason, ended.study, ended.suspended) == (reason, "s2", True)
        assert "its owner" in found.study("s2").ended
        assert len(found.insights()) == 1


async def test_what_a_site_counted_is_there_after_a_restart() -> None:
    async with consortium(SITES) as found:
        await _answered(found, "s1", **NOISE)
        await _restarted(found, Grant(queries=9, epsilon=1.5))
        _offered(found)
        await _answered(found, "s2", **NOISE)
        assert [one.reason for one in found.ended()] == ["EPSILON_SPENT"]


async def test_a_site_stops_a_job_at_the_round_that_was_not_granted() -> None:
    async with consortium(FOUR) as found:
        found.grant = Grant(queries=9, rounds=1)
        found.request()
        found.approve()
        hostile = Hostile(found, "job")
        await hostile.begin()
        await hostile.round(1, [])
        with pytest.raises(Refusal, match="ROUNDS_SPENT"):
            await hostile.round(2, [1.0] * 4)


async def test_rounds_that_a_job_held_and_did_not_take_are_given_back() -> None:
    async with consortium(SITES) as found:
        await _answered(found, "s1")
        (audited,) = found.service.all(events.JobAudited)
        for site in SITES:
            (kept,) = await found.kept[site].opened()
            assert kept.rounds == len(audited.rounds) < 16
            assert (kept.analyst, kept.dataset, kept.epsilon) == ("analyst", f"{site}/routine", 0.0)


async def test_another_analyst_has_a_budget_of_their_own() -> None:
    async with consortium(SITES) as found:
        _offered(found, queries_per_analyst=1)
        await _answered(found, "s1")
        found.request("s2", actor="another analyst", **NOISE)
        found.approve("s2")
        await found.step("s2")
        assert found.study("s2").state == "answered"
        assert json.loads(found.insights()[-1].tables)["noise"]["epsilon"] == 1.0
