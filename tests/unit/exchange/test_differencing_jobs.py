"""Jobs that are each within the rules, and that together would single out a site or a few patients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.domain import definitions
from services.exchange.domain.errors import Refusal
from services.exchange.site.session import Session
from services.exchange.site.source import CohortData
from tests.unit.exchange.consortium import Consortium, consortium
from tests.unit.exchange.hospitals import SITES, without

FOUR = (*SITES, "hospital-d")


def _lose(found: Consortium, site: str) -> None:
    """The site's first vector is lost, and its connection with it."""

    def bend(method: str, said: Any) -> Any:
        if method != "SubmitContribution":
            return said
        asyncio.get_running_loop().create_task(found.kill(site))
        return None

    found.lines[site].bend_said = bend


async def test_a_site_that_was_left_out_of_one_answer_is_not_in_the_next_over_the_same_patients() -> None:
    """The first answer is over three of four, the second would be over all: the difference is the fourth."""
    async with consortium(FOUR) as found:
        _lose(found, "hospital-d")
        found.request()
        found.approve()
        await found.step()
        assert list(found.insights()[0].sites) == list(SITES)
        found.lines["hospital-d"].bend_said = lambda _, said: said
        found.start("hospital-d")
        found.request("s2")
        found.approve("s2")
        await found.step("s2")
        assert [one.reason for one in found.ended()] == ["SITES_TOO_CLOSE"]
        assert len(found.insights()) == 1


async def test_a_site_that_drops_out_of_a_job_over_patients_summed_before_is_waited_for() -> None:
    """All four were summed before; without the fourth, the difference of the two is the fourth."""
    async with consortium(FOUR) as found:
        found.request()
        found.approve()
        await found.step()
        _lose(found, "hospital-d")
        found.request("s2")
        found.approve("s2")
        assert await found.step("s2") is not None
        assert {one.reason for one in found.ended()} == {"SITES_TOO_CLOSE"}
        assert len(found.ended()) == 1, "the next job waits; it does not try one site after the other"
        assert not [one for one in found.service.all(events.JobAudited) if one.study == "s2"]
        found.lines["hospital-d"].bend_said = lambda _, said: said
        found.start("hospital-d")
        await found.step("s2")
        assert [list(one.sites) for one in found.insights()] == [list(FOUR), list(FOUR)]


async def test_two_jobs_at_once_over_nearly_the_same_patients_do_not_both_open() -> None:
    """Both freeze before either has opened; the one that opens second is refused."""
    async with consortium(SITES) as found:
        hospital, whole = found.hospitals["hospital-a"], found.hospitals["hospital-a"].held
        cohorts: dict[Any, CohortData] = {}

        async def by_job(_: Any) -> CohortData:
            # Each job is one task of the agent; the second one's cohort is a patient less.
            return cohorts.setdefault(asyncio.current_task(), without(whole, 1) if cohorts else whole)

        hospital.cohort = by_job  # type: ignore[method-assign]
        for study in ("s1", "s2"):
            found.request(study)
            found.approve(study)
        await asyncio.gather(found.step("s1"), found.step("s2"))
        assert len(cohorts) == 2
        assert [one.reason for one in found.ended()] == ["COHORT_TOO_CLOSE"]
        assert len(found.insights()) == 1


# -- a coordinator that does not keep to the protocol --------------------------------


class Hostile:
    """Asks the sites' sessions what it likes; no conductor and no rules of its own."""

    def __init__(self, found: Consortium, job: str, sites: tuple[str, ...] = FOUR) -> None:
        study = found.study("s1").message()
        self.job, self.sites = job, sites
        hashed = definitions.parameters_hash(study.definition, study.model, study.specification)
        task = api.FreezeTask(study="s1", job=job, participants=sites, parameters_hash=hashed)
        self.sessions = {site: Session(found.site(site), task) for site in sites}

    async def begin(self) -> None:
        keys = [(await session.freeze())[0] for session in self.sessions.values()]
        for session in self.sessions.values():
            await session.begin(api.BeginTask(job=self.job, sites=keys))

    async def round(self, number: int, parameters: list[float], sites: tuple[str, ...] = FOUR) -> None:
        """A round that every site of the set opens."""
        task = api.RoundTask(job=self.job, round=number, attempt=1, participants=sites, phase="presence")
        if parameters:
            task.phase = "moments"
            task.parameters[:] = parameters
        made = [await self.sessions[site].answer(task) for site in sites]
        told = [one.statement for one in made]
        opening = api.OpenTask(job=self.job, round=number, attempt=1)
        for one in told:
            opening.statements.add(site=one.site, vector=one.vector, seed=one.seed, signature=one.signature)
        for site in sites:
            await self.sessions[site].open(opening)


@asynccontextmanager
async def _asked() -> AsyncIterator[Consortium]:
    async with consortium(FOUR) as found:
        found.request()
        found.approve()
        yield found


async def test_a_site_masks_nothing_over_fewer_sites_once_a_sum_of_the_job_was_opened() -> None:
    """The next round, at other parameters, would show the fourth site's part nearly as well."""
    async with _asked() as found:
        hostile = Hostile(found, "job")
        await hostile.begin()
        await hostile.round(1, [])
        with pytest.raises(Refusal, match="PARTICIPANTS_CHANGED"):
            await hostile.round(2, [1.0] * 4, SITES)
        await hostile.round(2, [1.0] * 4)


async def test_a_job_that_opened_sums_is_not_frozen_again() -> None:
    """Its second cohort would take the first one's place, and its rounds would be counted anew."""
    async with _asked() as found:
        hostile = Hostile(found, "job")
        await hostile.begin()
        await hostile.round(1, [])
        with pytest.raises(Refusal, match="JOB_REPEATED"):
            await Hostile(found, "job").begin()


async def test_a_site_counts_the_queries_of_an_analyst_itself() -> None:
    async with _asked() as found:
        found.queries = 2
        for job in ("first", "second"):
            hostile = Hostile(found, job)
            await hostile.begin()
            await hostile.round(1, [])
        with pytest.raises(Refusal, match="BUDGET_SPENT"):
            await Hostile(found, "third").begin()
