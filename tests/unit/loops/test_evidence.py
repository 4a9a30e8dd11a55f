"""The evidence machine alone: each way that a study ends, in whatever order things are heard."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit.ids import study_case
from tests.unit.loops.player import Player, Said

STUDY, PRODUCT, SITES = "bleeding-1", "m/item/G", ("hospital-a", "hospital-b", "hospital-c")
CASE = study_case(STUDY)
STAGES = ["approve", "freeze", "compute", "publish", "take-up"]
REQUESTED = exchange.StudyRequested(study=STUDY, product=PRODUCT, sites=SITES)


def opened() -> tuple[Player, str]:
    """A study that was asked for, and its run."""
    player = Player(CASE)
    player.say(REQUESTED)
    return player, player.told(loops.EvidenceRunOpened)[0].run


def approved() -> list[Said]:
    return [(exchange.StudyApproved(study=STUDY, site=site), f"owner-{site}", 1) for site in SITES]


def job(number: int = 1, sites: tuple[str, ...] = SITES) -> list[Said]:
    """What is said of a job until its rounds are on record."""
    name = f"job-{number}"
    of: dict[str, Any] = {"study": STUDY, "job": name}
    frozen = [(exchange.CohortFrozen(**of, site=site), f"{name}-{site}", 1) for site in sites]
    return [
        (exchange.JobOpened(**of, number=number, participants=sites), name, 1),
        *frozen,
        (exchange.JobAudited(**of), f"{name}-audit", 1),
    ]


def found() -> list[Said]:
    return [
        (exchange.InsightPublished(study=STUDY, insight="i"), "insight", 1),
        (rnd.HypothesisUpdated(study=STUDY, insight="i"), "hypothesis", 1),
    ]


def suspended(number: int = 1) -> exchange.JobEnded:
    return exchange.JobEnded(study=STUDY, job=f"job-{number}", reason="TOO_FEW_SITES", suspended=True)


def test_a_request_opens_a_run_that_names_it() -> None:
    player, run = opened()
    assert player.told(loops.EvidenceRunOpened) == [
        loops.EvidenceRunOpened(
            run=run, case=CASE, study=STUDY, product=PRODUCT, sites=SITES, trigger=player.fed[0].id
        )
    ]


@given(st.randoms(use_true_random=False))
def test_any_order_across_sources_and_any_repeat_closes_the_run_alike(chance: random.Random) -> None:
    player = Player(CASE)
    player.shuffled([(REQUESTED, "study", 1), *approved(), *job(), *found()], chance)
    (run,) = player.told(loops.EvidenceRunOpened)
    assert player.stages() == STAGES
    assert player.told(loops.LoopClosed) == [
        loops.LoopClosed(
            run=run.run,
            case=CASE,
            outcome=loops.RUN_OUTCOME_CLOSED,
            loop="evidence",
            study=STUDY,
            insight="i",
        )
    ]
    player.check("evidence")


@given(st.randoms(use_true_random=False), st.sampled_from(SITES))
def test_a_suspended_job_leaves_the_run_open_for_the_next_one(chance: random.Random, away: str) -> None:
    player = Player(CASE)
    refused = exchange.CohortFrozen(study=STUDY, job="job-1", site=away, refusals=["TOO_FEW_ROWS"])
    first = [item for item in job()[:-1] if item[1] != f"job-1-{away}"]
    left = tuple(site for site in SITES if site != away)
    said = [
        (REQUESTED, "study", 1),
        *approved(),
        *first,
        (refused, f"job-1-{away}", 1),
        (suspended(), "job-1", 2),
        *job(2, left),
        *found(),
    ]
    player.shuffled(said, chance)
    (run,) = player.told(loops.EvidenceRunOpened)
    assert player.stages() == STAGES
    assert player.endings() == [(run.run, "CLOSED")]


def test_a_cohort_that_may_not_take_part_does_not_count_as_frozen() -> None:
    player, _ = opened()
    for item in [*approved(), *job()[:-2]]:
        player.say(*item)
    player.say(exchange.CohortFrozen(study=STUDY, job="job-1", site=SITES[-1], refusals=["TOO_FEW_ROWS"]))
    player.say(suspended())
    assert player.stages() == ["approve"]
    for item in job(2, SITES[:2])[:-1]:
        player.say(*item)
    assert player.stages() == ["approve", "freeze"]


def test_cohorts_of_two_jobs_are_not_added() -> None:
    player, _ = opened()
    for item in [*approved(), job()[0], *job()[1:3], job(2)[0], job(2)[3]]:
        player.say(*item)
    assert player.stages() == ["approve"]


@pytest.mark.parametrize("stage", range(5))
def test_a_run_waits_for_what_is_missing_and_says_so_when_it_is_late(stage: int) -> None:
    player, run = opened()
    parts = [approved(), job()[:-1], job()[-1:], found()[:1], found()[1:]]
    missing = parts[stage].pop()
    for part in parts:
        for item in part:
            player.say(*item)
    assert player.stages() == STAGES[:stage]
    player.say(loops.DeadlinePassed(run=run, case=CASE, stage=STAGES[(stage + 1) % 5]))
    assert not player.told(loops.LoopStalled)
    player.say(loops.DeadlinePassed(run=run, case=CASE, stage=STAGES[stage]))
    (stalled,) = player.told(loops.LoopStalled)
    assert (stalled.run, stalled.case, stalled.stage) == (run, CASE, STAGES[stage])
    assert stalled.waiting_for
    player.say(*missing)
    assert player.endings() == [(run, "CLOSED")]
    player.check("evidence")


def test_each_stage_has_its_time() -> None:
    player, _ = opened()
    for item in [*approved(), *job(), *found()]:
        player.say(*item)
    hours = [14 * 24, 24, 24, 6, 72]
    assert player.deadlines() == [(s, timedelta(hours=h)) for s, h in zip(STAGES, hours, strict=True)]


ENDS: list[tuple[Message, str, str, str]] = [
    (
        exchange.StudyRefused(study=STUDY, actor="owner", reason="not ours", meaning="owner signs"),
        "REFUSED",
        "owner",
        "not ours",
    ),
    (
        exchange.StudyStopped(study=STUDY, actor="analyst", reason="no more", meaning="analyst signs"),
        "STOPPED",
        "analyst",
        "no more",
    ),
    (
        exchange.JobEnded(study=STUDY, job="job-1", reason="DISCLOSURE", statement="it would tell"),
        "STOPPED",
        "",
        "it would tell",
    ),
    (exchange.StudyExpired(study=STUDY), "EXPIRED", "", "its time was over"),
    (
        rnd.InsightDeclined(study=STUDY, actor="chemist", reason="confounded", meaning="chemist signs"),
        "DECLINED",
        "chemist",
        "confounded",
    ),
    (
        loops.RunCancelRequested(case=CASE, actor="qa", reason="twice", meaning="qa signs"),
        "CANCELLED",
        "qa",
        "twice",
    ),
]


@pytest.mark.parametrize("heard", [0, 3, 7, 9])
@pytest.mark.parametrize(("end", "outcome", "actor", "reason"), ENDS, ids=[type(e[0]).__name__ for e in ENDS])
def test_a_study_ends_where_it_stands_and_nothing_follows(
    end: Message, outcome: str, actor: str, reason: str, heard: int
) -> None:
    player, run = opened()
    said = [*approved(), *job(), *found()]
    for item in said[:heard]:
        player.say(*item)
    player.say(end, "end", 1)
    (ended,) = player.told(loops.LoopClosed)
    assert player.endings() == [(run, outcome)]
    assert (ended.actor, ended.reason, ended.study) == (actor, reason, STUDY)
    assert ended.meaning == (f"{actor} signs" if actor else "")
    assert ended.insight == ("i" if heard == 9 else "")
    for item in said[heard:]:
        assert player.say(*item) == []
    assert player.stages() == STAGES[: {0: 0, 3: 1, 7: 2, 9: 4}[heard]]
    player.check("evidence")


def test_a_study_that_ended_before_its_request_was_heard_ends_as_it_opens() -> None:
    player = Player(CASE)
    player.say(ENDS[1][0])
    player.say(REQUESTED)
    assert [how for _, how in player.endings()] == ["STOPPED"]
    player.check("evidence")


def test_a_study_that_asks_nobody_is_not_approved_by_that() -> None:
    player = Player(CASE)
    player.say(exchange.StudyRequested(study=STUDY))
    assert player.stages() == []


def test_a_second_request_opens_no_second_run() -> None:
    player, _ = opened()
    assert player.say(REQUESTED, "study-again", 1) == []
