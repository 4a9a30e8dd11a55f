"""Any interleaving of what a site hears ends in the same acknowledgements, plans and summaries."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.clinical.views import HOLDINGS, PLANS
from services.kit.contracts import contract
from services.kit.work import STEPS
from tests.unit.clinical.memory_site import SITE, START, MemorySite
from tests.unit.clinical.patches import template
from tests.unit.clinical.scenario import HOURS, KIND, LOTS, RUNS, Story, deliveries, expected, stories

_SETTINGS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def asking_site() -> MemorySite:
    """A site whose patients are asked by a template that depends on what a run is about."""
    site = MemorySite()
    request = api.RegisterFollowUpTemplateRequest(site=SITE, template=template("", KIND, HOURS))
    site.command("RegisterFollowUpTemplate", request, START)
    return site


def _play(data: st.DataObject) -> tuple[Story, MemorySite]:
    story = data.draw(stories(), label="story")
    site = asking_site()
    for batch in data.draw(deliveries(story), label="deliveries"):
        site.deliver(*batch, together=data.draw(st.booleans(), label="together"))
    assert not site.dead_letters()
    return story, site


@_SETTINGS
@given(st.data())
def test_every_order_ends_in_the_same_statements(data: st.DataObject) -> None:
    story, site = _play(data)
    for run in RUNS:
        wanted = expected(story, run)
        assert site.last(clinical.ExposureReceived, run) == wanted.received
        assert site.last(clinical.PlansOpened, run) == wanted.opened
        assert site.last(clinical.FollowUpSummarised, run) == wanted.summary
        lots = site.states(HOLDINGS)[f"{run}|{SITE}"].lots.items()
        assert {lot: (c.plans, c.answered, c.affected) for lot, c in lots if c.plans} == wanted.counts
        told = site.last(clinical.NoticesSummarised, run)
        assert told is not None
        # What is said of those who know may lag behind until everybody does.
        lags = wanted.notices.notified + wanted.notices.unreachable < wanted.notices.patients
        assert told == wanted.notices or (lags and told.patients == wanted.notices.patients)


@_SETTINGS
@given(st.data())
def test_every_order_ends_in_the_same_plans(data: st.DataObject) -> None:
    story, site = _play(data)
    stored = site.states(PLANS).values()
    announced = [plan for bulk in site.all(clinical.MonitoringPlansOpened) for plan in bulk.plans]
    assert len({plan.plan for plan in announced}) == len(announced)
    for run in RUNS:
        wanted = expected(story, run).lots_of
        opened = {p.pseudonym: p for p in stored if p.run == run and p.stage == "open"}
        assert {name: plan.lots for name, plan in opened.items()} == wanted
        # Some were opened before it was known that their patient withdrew, died, left or took nothing.
        assert {plan.pseudonym for plan in announced if plan.run == run} >= set(wanted)
        _check_follow_up(site, run, {plan.due for plan in stored if plan.run == run and plan.due})


def _check_follow_up(site: MemorySite, run: str, dues: set[str]) -> None:
    row = site.states(STEPS).get(f"follow-up|{run}")
    assert (row.due if row else "") == max(dues, default="")
    assert {datetime.fromisoformat(due) for due in dues} <= {START + timedelta(hours=HOURS)}


@_SETTINGS
@given(st.data())
def test_only_what_was_announced_is_acknowledged(data: st.DataObject) -> None:
    story, site = _play(data)
    for ack in site.all(clinical.ExposureReceived):
        version = expected(Story(story.people, story.given, ack.epoch), ack.run).received
        assert (ack.n, ack.digest) == (version.n, version.digest)


@_SETTINGS
@given(st.data())
def test_what_only_the_site_has_is_told_once(data: st.DataObject) -> None:
    story, site = _play(data)
    told = [fact.dispense for fact in site.all(traceability.DispenseRecorded)]
    wanted = set().union(*(expected(story, run).only_here for run in RUNS))
    recorded = {given.id for given in story.given if given.own in ("recorded", "taken back")}
    assert len(set(told)) == len(told)
    assert wanted <= set(told) <= recorded
    taken_back = {fact.dispense for fact in site.all(traceability.DispenseCorrected)}
    assert taken_back == {given.id for given in story.given if given.own == "taken back"} & set(told)


_OF_NO_RUN = (
    traceability.DispenseRecorded,
    traceability.DispenseCorrected,
    clinical.FollowUpTemplateRegistered,
)


@_SETTINGS
@given(st.data())
def test_every_event_of_a_run_carries_its_run_and_to_all_its_case(data: st.DataObject) -> None:
    _, site = _play(data)
    for event in site.events():
        if not isinstance(event.message, _OF_NO_RUN):
            own = f".{SITE}." in contract().route(event.message, SITE)[0]
            assert event.case == ("" if own else LOTS[0])
            assert event.run in RUNS
            assert event.subject == f"{event.run}|{SITE}"


@_SETTINGS
@given(st.data())
def test_delivering_everything_again_says_nothing_new(data: st.DataObject) -> None:
    story = data.draw(stories(), label="story")
    batches = data.draw(deliveries(story), label="deliveries")
    site = asking_site()
    for batch in batches:
        site.deliver(*batch)
    said, held = site.rows(), site.states(HOLDINGS)
    for batch in batches:
        site.deliver(*batch)
    assert site.rows() == said
    assert site.states(HOLDINGS) == held
