"""A site whose database is set back: what it has said stands, and of what it folds again it says no half."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.clinical.handlers.due import SETTLE_STEP
from services.clinical.views import KINDS
from services.kit.work import STEPS
from tests.unit.clinical.memory_site import SITE, START, MemorySite
from tests.unit.clinical.scenario import LOTS, RUNS, deliveries, expected, stories
from tests.unit.clinical.test_order import asking_site

_STATEMENTS = (clinical.ExposureReceived, clinical.PlansOpened, clinical.FollowUpSummarised)


def _settle(site: MemorySite) -> None:
    """What the step runner does, once commands are taken again."""
    for step in [one for one in site.states(STEPS).values() if one.step == SETTLE_STEP]:
        site.command("SettleAgain", clinical.MonitoringPlan(run=step.key), START)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(st.data())
def test_any_order_of_folding_again_ends_in_the_same_statements(data: st.DataObject) -> None:
    story = data.draw(stories(), label="story")
    batches = data.draw(deliveries(story), label="deliveries")
    site = asking_site()
    before, lost = (data.draw(st.integers(0, len(batches)), label=name) for name in ("copied", "lost"))
    copy = site.saved()
    for number, batch in enumerate(batches):
        copy = site.saved() if number == before else copy
        if number == lost:
            site.append(*batch)  # in the log when the database is lost, and not folded
        elif number < lost:
            site.deliver(*batch)
    said = len(site.rows())
    lacking = site.set_back(copy, KINDS, {}, START)
    assert len(site.rows()) == said
    while left := site.unfolded():
        site.fold(data.draw(st.sampled_from(left)), data.draw(st.integers(1, 5)))
    if lost == len(batches):
        now = [event for event in site.events()[said:] if isinstance(event.message, _STATEMENTS)]
        assert not lacking or not now, "a half is said"
    _settle(site)
    for batch in batches[lost + 1 :]:
        site.deliver(*batch)
    _settle(site)
    assert not site.dead_letters()
    for run in RUNS:
        wanted = expected(story, run)
        assert site.last(clinical.ExposureReceived, run) == wanted.received
        assert site.last(clinical.PlansOpened, run) == wanted.opened
        assert site.last(clinical.FollowUpSummarised, run) == wanted.summary
    told = {fact.dispense for fact in site.all(traceability.DispenseRecorded)}
    taken_back = {fact.dispense for fact in site.all(traceability.DispenseCorrected)}
    assert {given.id for given in story.given if given.own == "taken back"} & told <= taken_back
    cases = {event.case for event in site.events() if isinstance(event.message, _STATEMENTS)}
    assert cases == {LOTS[0]}, SITE
