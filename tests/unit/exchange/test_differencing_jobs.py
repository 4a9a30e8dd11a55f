"""Jobs that are each within the rules, and that together would single out a site or a few patients."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode, aio

from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from pharmaloop.loops.v1 import events_pb2 as loops
from services.exchange.domain import definitions
from services.exchange.domain.disclosure.budget import Grant
from services.exchange.domain.studies import MOST_JOBS
from services.exchange.site.session import Session
from services.exchange.site.source import CohortData
from services.exchange.steps import pause_after
from services.kit.ids import study_case
from services.kit.rpc.errors import reason_of
from services.refusals import Refusal
from tests.unit.exchange.consortium import Consortium, consortium
from tests.unit.exchange.hospitals import SITES, TERMS, without
from tests.unit.memory_service import Said

FOUR = (*SITES, "hospital-d")


def _lose(found: Consortium, site: str) -> None:
    """The site's first vector is lost, and its connection with it."""

    def bend(method: str, said: Any) -> Any:
        if method != "vector":
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

        hospital.cohort = by_job  # type: ignore[method-assign, assignment]
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
        found.grant = Grant(queries=2)
        for job in ("first", "second"):
            hostile = Hostile(found, job)
            await hostile.begin()
            await hostile.round(1, [])
        with pytest.raises(Refusal, match="QUERIES_SPENT"):
            await Hostile(found, "third").begin()


# -- others who speak for a site ------------------------------------------------------


async def test_nobody_confirms_a_cohort_for_a_site_whose_patient_withdrew() -> None:
    """The answer would be released before the site has said that its cohort changed."""
    async with consortium(SITES) as found:
        hospital = found.hospitals["hospital-b"]
        refused: list[str] = []

        def bend(kind: str, task: Any) -> Any:
            if kind == "round":
                asyncio.get_running_loop().create_task(forge(task.round.job, b""))
            if kind == "confirm":
                hospital.held = without(hospital.held, 1)
                asyncio.get_running_loop().create_task(forge(task.confirm.job, task.confirm.nonce))
            return task

        async def forge(job: str, nonce: bytes) -> None:
            said = api.ConfirmCohortRequest(job=job, site="hospital-b", nonce=nonce, signature=bytes(64))
            try:
                refused.append((await found.receive("ConfirmCohort", "hospital-c", said)).outcome)
            except aio.AioRpcError as error:
                refused.append(reason_of(error)[0])

        found.lines["hospital-b"].bend_task = bend
        found.request()
        found.approve()
        await found.step()
        assert set(refused) == {"OTHER_CONFIRMATION", "NOT_SIGNED"}
        assert [one.reason for one in found.ended()] == ["COHORT_CHANGED"]
        assert not found.insights()


async def test_an_owner_who_takes_the_approval_back_is_heard_without_the_coordinator() -> None:
    async with consortium(SITES) as found:

        def bend(kind: str, task: Any) -> Any:
            if kind == "confirm":
                no = api.RefuseStudyRequest(study="s1", site="hospital-a", reason="no longer")
                found.command("RefuseStudy", no, "owner of hospital-a")
            return task

        found.lines["hospital-a"].bend_task = bend
        found.request()
        found.approve()
        await found.step()
        confirmed = [said for _, said in found.traffic if isinstance(said, api.ConfirmCohortRequest)]
        assert "hospital-a" not in {one.site for one in confirmed}
        assert not found.insights()
        (audited,) = found.service.all(events.JobAudited)
        assert audited.rounds, "what was opened is on record, though the study is over"


# -- what a restart and a lost call cost ----------------------------------------------


async def test_a_cohort_that_is_not_taken_once_is_said_again() -> None:
    async with consortium(SITES) as found:
        lost: list[str] = []

        def bend(method: str, said: Any) -> Any:
            if method == "SubmitCohort" and not lost:
                lost.append(method)
                raise aio.AioRpcError(StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata())
            return said

        found.lines["hospital-b"].bend_said = bend
        found.request()
        found.approve()
        await found.step()
        assert lost
        assert found.study().state == "answered"
        assert not found.ended()


async def test_a_job_that_was_lost_counts_as_a_query() -> None:
    """The coordinator may have died with the sums in its hands, before they were on record."""
    async with consortium(SITES) as found:
        found.request()
        found.approve()
        found.command(
            "OpenJob", events.JobOpened(study="s1", job="lost", participants=SITES), actor="platform"
        )
        await found.step()
        assert [one.reason for one in found.ended()] == ["COORDINATOR_RESTARTED"]
        assert len(found.study().queries("hospital-a")) == 2


# -- what the record tells ------------------------------------------------------------


async def test_the_record_of_a_round_does_not_let_its_sum_be_tried_out() -> None:
    """The first round counts sites: a handful of small numbers, as the counts that are withheld."""
    async with consortium(SITES) as found:
        found.request()
        found.approve()
        await found.step()
        (audited,) = found.service.all(events.JobAudited)
        total = np.full(1 + len(TERMS), 3.0)
        assert audited.rounds[0].numbers == len(total)
        assert audited.rounds[0].sum_hash != hashlib.sha256(total.tobytes()).digest()
        assert len({one.sum_hash for one in audited.rounds}) == len(audited.rounds)


# -- how a study goes on, and how it ends ----------------------------------------------


def test_a_study_that_waits_for_patients_has_jobs_left_after_weeks() -> None:
    waited = sum(pause_after("COHORT_TOO_CLOSE", number, 5.0) for number in range(1, MOST_JOBS))
    assert waited > 28 * 86_400
    assert pause_after("SITE_DROPPED", MOST_JOBS, 5.0) == 600.0
    assert pause_after("COHORT_TOO_CLOSE", 1, 5.0) == 5.0


async def test_a_study_whose_run_a_person_ended_computes_nothing() -> None:
    async with consortium(SITES) as found:
        found.request()
        run = found.run_of()
        closed = loops.LoopClosed(
            run=run, loop="evidence", study="s1", actor="lead", reason="asked twice", case=study_case("s1")
        )
        outcomes = ((loops.RUN_OUTCOME_STOPPED, "requested"), (loops.RUN_OUTCOME_CANCELLED, "stopped"))
        for seq, (outcome, state) in enumerate(outcomes, 1):
            closed.outcome = outcome
            told = Said(closed, f"/svc/loops/{run}", seq, f"closed/{seq}", found.now)
            found.service.deliver(told)
            assert found.study().state == state
        await found.step()
        assert not found.study().jobs
        (stopped,) = found.service.all(events.StudyStopped)
        assert (stopped.actor, stopped.reason) == ("lead", "its run was ended: asked twice")
