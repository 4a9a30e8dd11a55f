"""Studies by their rules: what is refused, by which rule; and no order of commands breaks them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.api import shown_study
from services.exchange.domain import studies
from services.exchange.handlers import COMMANDS, EVENTS
from services.exchange.views import DATASETS, STUDIES
from services.kit.errors import Rejected
from services.kit.runners.reactor import Reactor
from tests.unit.exchange.hospitals import SITES, request
from tests.unit.memory_service import MemoryService

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FOUR = (*SITES, "hospital-d")


def dataset(site: str, queries: int = 5, **changes: Any) -> api.RegisterDatasetRequest:
    asked = api.RegisterDatasetRequest(
        dataset=f"{site}/routine",
        site=site,
        title=site,
        covariates=[cohort.COVARIATE_SEX, cohort.COVARIATE_AGE_BAND],
        queries_per_analyst=queries,
        signing_key=site.encode().ljust(32, b"."),
        mask_key=bytes(32),
    )
    for name, value in changes.items():
        setattr(asked, name, value)
    return asked


def service(queries: int = 5) -> MemoryService:
    made = MemoryService("exchange", Reactor("runs", EVENTS), COMMANDS)
    for site in FOUR:
        made.command("RegisterDataset", dataset(site, queries), NOW)
    return made


def refused(made: MemoryService, method: str, asked: Message, actor: str = "analyst") -> tuple[str, str]:
    before = len(made.rows())
    with pytest.raises(Rejected) as told:
        made.command(method, asked, NOW, actor)
    assert len(made.rows()) == before, "a refusal leaves nothing behind"
    return told.value.reason, told.value.field


def _without_ethics(asked: api.RequestStudyRequest) -> None:
    asked.ClearField("ethics")


def _expired_ethics(asked: api.RequestStudyRequest) -> None:
    asked.ethics.until.FromDatetime(NOW - timedelta(days=1))


def _two_sites(asked: api.RequestStudyRequest) -> None:
    del asked.datasets[2:]


def _site_twice(asked: api.RequestStudyRequest) -> None:
    asked.datasets[2] = asked.datasets[0]


def _unknown_dataset(asked: api.RequestStudyRequest) -> None:
    asked.datasets[1] = "hospital-x/routine"


def _set(**values: Any) -> Callable[[api.RequestStudyRequest], None]:
    def change(asked: api.RequestStudyRequest) -> None:
        for name, value in values.items():
            setattr(asked, name, value)

    return change


def _specification(text: str) -> Callable[[api.RequestStudyRequest], None]:
    return _set(specification=text)


_TERM = '"terms": [{"column": "exposed", "low": 0, "high": 1}], "outcome": {"column": "event"}'


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        (_set(purpose=" "), "REQUIRED", "purpose"),
        (_set(question=""), "REQUIRED", "question"),
        (_without_ethics, "REQUIRED", "ethics"),
        (_expired_ethics, "ETHICS_EXPIRED", "ethics.until"),
        (_two_sites, "TOO_FEW_SITES", "datasets"),
        (_site_twice, "SITE_TWICE", "datasets[2]"),
        (_unknown_dataset, "UNKNOWN_DATASET", "datasets[1]"),
        (_set(model="oracle"), "UNKNOWN_MODEL", "model"),
        (_specification("{"), "NOT_JSON", "specification"),
        (_specification("[]"), "NOT_A_MAPPING", "specification"),
        (_specification('{"terms": []}'), "NOT_A_LIST", "spec.terms"),
        (_specification(f'{{"cells_at_least": 1, {_TERM}}}'), "TOO_LAX", "specification.cells_at_least"),
        (_set(most_rounds=10_000), "OUT_OF_RANGE", "most_rounds"),
        (_set(epsilon=1.0), "NOT_OFFERED", "epsilon"),
        (_set(follows="nothing"), "UNKNOWN_STUDY", "follows"),
        (lambda asked: asked.definition.ClearField("until"), "REQUIRED", "definition.from"),
        (lambda asked: asked.definition.outcome.Clear(), "REQUIRED", "definition.outcome.kind"),
        (
            lambda asked: asked.definition.covariates.append(cohort.COVARIATE_DOSE),
            "NO_SUCH_COVARIATE",
            "definition.covariates",
        ),
    ],
)
def test_a_study_that_lacks_something_is_refused_by_its_rule(
    change: Callable[[api.RequestStudyRequest], None], reason: str, field: str
) -> None:
    asked = request("s1", NOW)
    change(asked)
    assert refused(service(), "RequestStudy", asked) == (reason, field)


def test_public_data_may_be_asked_without_thresholds() -> None:
    made = service()
    asked = request("s1", NOW)
    asked.profile = events.DISCLOSURE_PROFILE_PUBLIC_DATA
    made.command("RequestStudy", asked, NOW, "analyst")
    assert '"cells_at_least":0' in made.states(STUDIES)["s1"].message().specification


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"dataset": "routine"}, "BAD_NAME", "dataset"),
        ({"title": ""}, "REQUIRED", "title"),
        ({"signing_key": b"short"}, "BAD_KEY", "signing_key"),
        ({"queries_per_analyst": 0}, "OUT_OF_RANGE", "queries_per_analyst"),
        ({"rounds_per_analyst": 0}, "OUT_OF_RANGE", "rounds_per_analyst"),
        ({"epsilon_per_analyst": -1.0}, "OUT_OF_RANGE", "epsilon_per_analyst"),
        ({"epsilon_per_analyst": float("nan")}, "OUT_OF_RANGE", "epsilon_per_analyst"),
        ({"signing_key": bytes(32)}, "KEY_ON_RECORD", "signing_key"),
        (
            {"dataset": "hospital-a/second", "signing_key": bytes(32)},
            "KEY_ON_RECORD",
            "signing_key",
        ),
    ],
)
def test_a_dataset_that_lacks_something_is_refused(changes: dict[str, Any], reason: str, field: str) -> None:
    assert refused(service(), "RegisterDataset", dataset("hospital-a", **changes)) == (reason, field)


def test_the_same_offer_twice_says_nothing_new() -> None:
    made = service()
    before = len(made.rows())
    made.command("RegisterDataset", dataset("hospital-a"), NOW, "another start of the agent")
    assert len(made.rows()) == before + 0
    made.command("RegisterDataset", dataset("hospital-a", queries=9), NOW)
    assert made.states(DATASETS)["hospital-a/routine"].message().queries_per_analyst == 9


def test_who_asks_does_not_approve() -> None:
    made = service()
    made.command("RequestStudy", request("s1", NOW), NOW, "analyst")
    asked = api.ApproveStudyRequest(study="s1", site="hospital-a", meaning="yes")
    assert refused(made, "ApproveStudy", asked, "analyst") == ("OWN_STUDY", "site")
    asked.site = "hospital-d"
    assert refused(made, "ApproveStudy", asked, "owner") == ("NOT_ASKED", "site")
    asked.site, asked.meaning = "hospital-a", " "
    assert refused(made, "ApproveStudy", asked, "owner") == ("REQUIRED", "meaning")


@pytest.mark.parametrize("method", ["RefuseStudy", "StopStudy"])
def test_a_study_that_a_person_ends_says_who_and_what_that_signature_means(method: str) -> None:
    made = service()
    made.command("RequestStudy", request("s1", NOW), NOW, "analyst")
    asked = getattr(api, f"{method}Request")(study="s1", reason="not for us", meaning="I decide for the site")
    if method == "RefuseStudy":
        asked.site = "hospital-a"
    made.command(method, asked, NOW, "owner")
    shown = shown_study(made.states(STUDIES)["s1"])
    assert (shown.statement, shown.ended_by, shown.ended_meaning) == (
        "not for us",
        "owner",
        "I decide for the site",
    )


def test_a_spent_budget_refuses_the_next_study_of_the_analyst_alone() -> None:
    made = service(queries=1)
    made.command("RequestStudy", request("s1", NOW), NOW, "analyst")
    for site in SITES:
        made.command("ApproveStudy", api.ApproveStudyRequest(study="s1", site=site, meaning="yes"), NOW, site)
    made.command("OpenJob", events.JobOpened(study="s1", job="j1", participants=SITES), NOW)
    assert refused(made, "RequestStudy", request("s2", NOW)) == ("QUERIES_SPENT", "datasets")
    made.command("RequestStudy", request("s3", NOW), NOW, "another analyst")
    made.command("EndJob", events.JobEnded(study="s1", job="j1", reason="TOO_FEW_SITES", suspended=True), NOW)
    made.command("RequestStudy", request("s2", NOW), NOW, "analyst")


def test_events_of_a_study_say_its_case() -> None:
    made = service()
    made.command("RequestStudy", request("s1", NOW), NOW, "analyst")
    assert [event.case for event in made.events() if isinstance(event.message, events.StudyRequested)] == [
        "study:s1"
    ]


class Studies(RuleBasedStateMachine):
    """Any order of commands: each is obeyed or refused, and the rules hold after each."""

    def __init__(self) -> None:
        super().__init__()
        self.made = service(queries=2)
        self.now = NOW
        self.jobs = 0
        self.ended: dict[str, str] = {}

    def say(self, method: str, asked: Message, actor: str = "platform") -> bool:
        try:
            self.made.command(method, asked, self.now, actor)
        except Rejected:
            return False
        return True

    studies = st.sampled_from(["s1", "s2", "s3"])
    sites = st.sampled_from(FOUR)

    @rule(study=studies)
    def request(self, study: str) -> None:
        self.say("RequestStudy", request(study, NOW), "analyst")

    @rule(study=studies, site=sites)
    def approve(self, study: str, site: str) -> None:
        self.say("ApproveStudy", api.ApproveStudyRequest(study=study, site=site, meaning="yes"), "owner")

    @rule(study=studies)
    def approve_all(self, study: str) -> None:
        for site in SITES:
            self.approve(study, site)

    @rule(study=studies, site=sites)
    def refuse(self, study: str, site: str) -> None:
        self.say("RefuseStudy", api.RefuseStudyRequest(study=study, site=site, reason="no"), "owner")

    @rule(study=studies)
    def stop(self, study: str) -> None:
        self.say("StopStudy", api.StopStudyRequest(study=study, reason="enough"), "analyst")

    @rule(study=studies, most=st.integers(1, 4))
    def open(self, study: str, most: int) -> None:
        self.jobs += 1
        self.say("OpenJob", events.JobOpened(study=study, job=f"j{self.jobs}", participants=FOUR[:most]))

    @rule(study=studies, rounds=st.integers(0, 2))
    def audit(self, study: str, rounds: int) -> None:
        records = [events.RoundRecord(round=n + 1) for n in range(rounds)]
        self.say("AuditJob", events.JobAudited(study=study, job=self._job(study), rounds=records))

    @rule(study=studies, suspended=st.booleans())
    def end(self, study: str, suspended: bool) -> None:
        told = events.JobEnded(study=study, job=self._job(study), reason="R", suspended=suspended)
        self.say("EndJob", told)

    @rule(study=studies)
    def publish(self, study: str) -> None:
        held = self.made.states(STUDIES).get(study)
        ready = held is not None and held.state == "computing" and held.jobs[-1].has_opened_sums
        told = events.InsightPublished(insight=f"i-{study}", study=study, job=self._job(study))
        assert self.say("PublishInsight", api.AnsweredJob(insight=told)) == ready

    @rule(study=studies, days=st.integers(0, 4000))
    def expire(self, study: str, days: int) -> None:
        self.now = max(self.now, NOW + timedelta(days=days))
        self.say("ExpireStudy", events.StudyExpired(study=study))

    def _job(self, study: str) -> str:
        held = self.made.states(STUDIES).get(study)
        return held.jobs[-1].job if held and held.jobs else "none"

    @invariant()
    def rules_hold(self) -> None:
        found = self.made.states(STUDIES)
        for id, study in found.items():
            assert sum(job.is_open for job in study.jobs) == (study.state == "computing") or study.at_rest
            assert [job.number for job in study.jobs] == list(range(1, len(study.jobs) + 1))
            for job in study.jobs:
                assert len(job.participants) >= 3
                assert set(job.participants) <= set(study.approved_by)
            assert bool(study.insight) == (study.state == "answered")
            if study.at_rest:
                assert self.ended.setdefault(id, study.state) == study.state, "what is over stays as it ended"
        for site in SITES:
            used = sum(len(study.queries(site)) for study in found.values())
            assert used <= 2, "the budget of the analyst is kept to"

    @invariant()
    def the_log_tells_the_same(self) -> None:
        folded: dict[str, studies.Study] = {}
        for event in self.made.events():
            study = getattr(event.message, "study", "")
            if study:
                folded[study] = studies.evolve(folded.get(study), event.message)
        assert folded == self.made.states(STUDIES)


Studies.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestStudies = Studies.TestCase
