"""Any history of one study's case, heard in any order, against what a person would write down about it."""

from __future__ import annotations

import random

from google.protobuf.message import Message
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.rnd.v1 import events_pb2 as rnd
from tests.unit.loops.player import Player
from tests.unit.loops.test_evidence import CASE, REQUESTED, SITES, STAGES, STUDY

JOBS = ("job-1", "job-2")
#: What ends a study, however far it is, and how its run then ends.
ENDS: dict[str, tuple[Message, str]] = {
    "an owner refuses": (exchange.StudyRefused(study=STUDY, reason="no"), "REFUSED"),
    "somebody stops it": (exchange.StudyStopped(study=STUDY, reason="enough"), "STOPPED"),
    "its time is over": (exchange.StudyExpired(study=STUDY), "EXPIRED"),
    "a job finds that nothing helps": (exchange.JobEnded(study=STUDY, job="job-1", reason="R"), "STOPPED"),
    "research declines the finding": (rnd.InsightDeclined(study=STUDY, insight="i"), "DECLINED"),
}


class Studies(RuleBasedStateMachine):
    """`heard` is what counts for the stages; `end` how the study ended, if it did."""

    @initialize()
    def begin(self) -> None:
        self.player = Player(CASE)
        self.requested = False
        self.approved: set[str] = set()
        self.asked: dict[str, set[str]] = {}
        self.frozen: dict[str, set[str]] = {}
        self.refusing: dict[str, set[str]] = {}
        self.audited = self.published = self.taken_up = False
        self.end = ""
        self.n = 0

    @property
    def is_over(self) -> bool:
        """Is there a run, and has it ended?"""
        return self.requested and (bool(self.end) or len(self.stages()) == len(STAGES))

    def stages(self) -> list[str]:
        """The stages that are behind the run, in their order."""
        frozen = (
            bool(sites) and sites <= self.frozen.get(job, set()) - self.refusing.get(job, set())
            for job, sites in self.asked.items()
        )
        done = [self.approved >= set(SITES), any(frozen), self.audited, self.published, self.taken_up]
        return STAGES[: [*done, False].index(False)]

    def say(self, message: Message) -> None:
        self.n += 1
        self.player.say(message, f"source-{self.n}", 1)

    jobs, sites = st.sampled_from(JOBS), st.sampled_from(SITES)

    @precondition(lambda self: not self.requested)
    @rule()
    def request(self) -> None:
        self.requested = True
        self.say(REQUESTED)

    @precondition(lambda self: not self.is_over)
    @rule(site=sites)
    def approve(self, site: str) -> None:
        self.approved.add(site)
        self.say(exchange.StudyApproved(study=STUDY, site=site))

    @precondition(lambda self: not self.is_over)
    @rule()
    def approve_all(self) -> None:
        for site in SITES:
            self.approved.add(site)
            self.say(exchange.StudyApproved(study=STUDY, site=site))

    @precondition(lambda self: not self.is_over)
    @rule(job=jobs, most=st.integers(2, 3))
    def open_job(self, job: str, most: int) -> None:
        if job not in self.asked:  # a job has its participants for good
            self.asked[job] = set(SITES[:most])
            self.say(exchange.JobOpened(study=STUDY, job=job, participants=SITES[:most]))

    @precondition(lambda self: not self.is_over)
    @rule(job=jobs, site=sites)
    def freeze(self, job: str, site: str) -> None:
        self.frozen.setdefault(job, set()).add(site)
        self.say(exchange.CohortFrozen(study=STUDY, job=job, site=site))

    @precondition(lambda self: not self.is_over)
    @rule(job=jobs)
    def freeze_all(self, job: str) -> None:
        for site in SITES:
            if not self.is_over:
                self.freeze(job, site)

    @precondition(lambda self: not self.is_over and "freeze" not in self.stages())
    @rule(job=jobs, site=sites)
    def cannot_freeze(self, job: str, site: str) -> None:
        self.refusing.setdefault(job, set()).add(site)
        self.say(exchange.CohortFrozen(study=STUDY, job=job, site=site, refusals=["CELL_TOO_SMALL"]))

    @precondition(lambda self: not self.is_over)
    @rule(job=jobs)
    def suspend(self, job: str) -> None:
        self.say(exchange.JobEnded(study=STUDY, job=job, reason="SITE_DROPPED", suspended=True))

    @precondition(lambda self: not self.is_over)
    @rule(job=jobs)
    def audit(self, job: str) -> None:
        self.audited = True
        self.say(exchange.JobAudited(study=STUDY, job=job))

    @precondition(lambda self: not self.is_over)
    @rule()
    def publish(self) -> None:
        self.published = True
        self.say(exchange.InsightPublished(study=STUDY, insight="i"))

    @precondition(lambda self: not self.is_over)
    @rule()
    def take_up(self) -> None:
        self.taken_up = True
        self.say(rnd.HypothesisUpdated(study=STUDY, insight="i"))

    @precondition(lambda self: not self.is_over)
    @rule(how=st.sampled_from(sorted(ENDS)))
    def finish(self, how: str) -> None:
        message, outcome = ENDS[how]
        self.end = self.end or outcome
        self.say(message)

    @precondition(lambda self: self.requested and not self.is_over)
    @rule()
    def cancel(self) -> None:
        self.end = "CANCELLED"
        self.say(loops.RunCancelRequested(case=CASE, reason="a mistake"))

    @precondition(lambda self: self.is_over)
    @rule(message=st.sampled_from([message for message, _ in ENDS.values()]))
    def come_too_late(self, message: Message) -> None:
        told = len(self.player.out)
        self.say(message)
        assert len(self.player.out) == told, "what is over says nothing more"

    @precondition(lambda self: self.player.fed)
    @rule(chance=st.randoms(use_true_random=False))
    def repeat(self, chance: random.Random) -> None:
        held = self.player.driver.cases[CASE]
        self.player.driver.take(chance.choice(self.player.fed))
        assert self.player.driver.cases[CASE] == held

    @invariant()
    def is_as_expected(self) -> None:
        endings, stages = [how for _, how in self.player.endings()], self.player.stages()
        assert len(self.player.told(loops.EvidenceRunOpened)) == int(self.requested)
        if not self.requested:
            assert (endings, stages) == ([], [])
        elif self.end:
            assert endings == [self.end]
            assert len(stages) < len(STAGES)
        else:
            assert stages == self.stages()
            assert endings == (["CLOSED"] if len(stages) == len(STAGES) else [])
        self.player.check("evidence")


Studies.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestStudies = Studies.TestCase
