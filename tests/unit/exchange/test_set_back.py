"""An exchange whose database is set back while its topics go on: a study in flight goes on to its end."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from pharmaloop.exchange.v1 import events_pb2 as events
from services.exchange.handlers.runs import EXPIRY_STEP, JOB_STEP, VALUATION_STEP
from services.exchange.regain import REGAIN
from services.exchange.views import KINDS
from services.kit import hpke
from services.kit.work import STEPS
from tests.unit.exchange.consortium import Consortium, consortium
from tests.unit.exchange.hospitals import SITES


def set_back(found: Consortium, copy: Any) -> None:
    assert found.service.set_back(copy, KINDS, REGAIN, found.now) > 0


def due(found: Consortium) -> set[str]:
    return {step.step for step in found.service.states(STEPS).values()}


async def run_steps(found: Consortium) -> None:
    """What is due is run, as the step runner does it."""
    if JOB_STEP in due(found):
        await found.step()
    if VALUATION_STEP in due(found):
        await found.value()


@pytest.mark.parametrize("stage", ["requested", "approved by one", "approved", "answered"])
async def test_a_study_that_went_on_after_the_moment_is_answered_once(stage: str) -> None:
    async with consortium(SITES) as found:
        found.request()
        copy = found.service.saved()
        if stage == "requested":
            found.request("s0")  # something has to be lacking
        if stage == "approved by one":
            found.approve(sites=SITES[:1])
        if stage in ("approved", "answered"):
            found.approve()
        if stage == "answered":
            await found.step()
        set_back(found, copy)
        assert {JOB_STEP, EXPIRY_STEP} <= due(found)
        if stage == "requested":
            found.approve()
        if stage == "approved by one":
            found.approve(sites=SITES[1:])
        await run_steps(found)
        assert found.study().state == "answered"
        assert len(found.study().contributions) == len(SITES)
        told = [one for one in found.insights() if one.study == "s1"]
        assert len(told) == 1, "what was published is not published anew"


async def test_a_study_that_the_database_does_not_know_at_all_comes_back_with_its_steps() -> None:
    async with consortium(SITES) as found:
        copy = found.service.saved()
        found.request()
        found.approve()
        set_back(found, copy)
        assert {JOB_STEP, EXPIRY_STEP} <= due(found)
        found.run_opened("s1")  # is folded again
        await run_steps(found)
        assert found.study().state == "answered"


async def test_contributions_that_waited_for_their_valuation_are_metered_without_shares() -> None:
    async with consortium(SITES) as found:
        found.start_evaluator(hpke.generate().private)
        while not found.desk._came.is_set():
            await asyncio.sleep(0.001)
        found.request(valued=True)
        found.approve(valuation=SITES)
        copy = found.service.saved()
        await found.step()
        assert found.study().state == "answered"
        found.valuations._answered.clear()  # the process is another one
        set_back(found, copy)
        assert found.study().state == "answered"
        await run_steps(found)
        metered = found.service.all(events.ContributionMetered)
        assert sorted(one.site for one in metered) == sorted(SITES)
        assert {(one.valued, one.not_valued) for one in metered} == {(False, "COORDINATOR_RESTARTED")}
        assert all(one.rounds > 0 for one in metered)
        set_back(found, copy)
        await run_steps(found)
        assert len(found.study().contributions) == len(SITES), "and once"


async def test_a_job_that_was_on_its_way_is_ended_and_another_one_answers() -> None:
    async with consortium(SITES) as found:
        found.request()
        found.approve()
        copy = found.service.saved()
        job = events.JobOpened(study="s1", job=str(uuid.uuid4()), participants=SITES)
        found.command("OpenJob", job, "platform")
        set_back(found, copy)
        assert found.study().state == "computing"
        await run_steps(found)
        assert found.study().state == "answered"
        assert [one.reason for one in found.ended()] == ["COORDINATOR_RESTARTED"]
