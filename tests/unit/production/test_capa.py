"""Corrective actions: when they are proposed, what approval does, what may be published."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.production.domain import capa as capas
from services.production.domain import evidence, limits, lists
from services.production.domain.capa import Capa, InForce, publishable
from services.production.domain.evidence import Evidence, SiteAnswers
from services.production.domain.pooled import Release, Row
from services.refusals import Absent, Malformed, Refusal

WHOLE = Evidence(
    "r1",
    root="m/item/API/1",
    deviation="d1",
    product="m/item/API",
    tag="Temp",
    version=3,
    sites=("a", "b"),
    sealed=3,
    answers=(SiteAnswers("a", 30, 28, True), SiteAnswers("b", 24, 22, True)),
    releases=(
        Release("a", 2, Row(28, 12), Row(56, 14), final_plans=30),
        Release("b", 1, Row(22, None), Row(50, None), final_plans=24),
    ),
)


def proposal(before: float = 6.0, after: float = 5.0) -> Capa:
    (proposed,) = capas.decide_propose(None, WHOLE, "c1", before, after)
    return capas.evolve(None, proposed)


def fold(held: Capa, decided: list[Message]) -> Capa:
    for event in decided:
        held = capas.evolve(held, event)
    return held


def validate(held: Capa | None, limit_now: float = 6.0, **said: str) -> list[Message]:
    asked = {"capa": "c1", "record": "V-1", "statement": "shown", "actor": "qa", **said}
    now = InForce(limit_now, 3, "i1")
    return capas.decide_validate(held, events.ChangeValidated(**asked), lambda: now)


def assess(held: Capa | None, limit_now: float = 6.0, **said: Any) -> list[Message]:
    asked: dict[str, Any] = {"category": events.FILING_CATEGORY_NOT_REPORTED, "statement": "inside", **said}
    now = InForce(limit_now, 3, "i1")
    return capas.decide_assess_filing(held, events.ChangeFilingAssessed(capa="c1", **asked), lambda: now)


def check(held: Capa | None, **said: Any) -> list[Message]:
    asked: dict[str, Any] = {"outcome": events.EFFECTIVENESS_OUTCOME_EFFECTIVE, "statement": "seen", **said}
    return capas.decide_check(held, events.CapaEffectivenessChecked(capa="c1", **asked))


def approved(held: Capa | None = None) -> Capa:
    held = held or proposal()
    return fold(held, capas.decide_approve(held, "qa", "approved"))


def capa_in(state: str) -> Capa:
    held = proposal()
    if state == "proposed":
        return held
    if state == "refused":
        return fold(held, capas.decide_refuse(held, "qa", "one site", "I refuse"))
    held = approved(held)
    if state == "approved":
        return held
    held = fold(held, validate(held))
    if state == "validated":
        return held
    held = fold(held, assess(held))
    return held if state == "effective" else fold(held, check(held))


def in_force(held: Capa, limit_now: float = 6.0) -> list[Message]:
    """What happens when the second of the two records of change control is made."""
    held = fold(held, validate(held))
    return assess(held, limit_now)[1:]


def test_a_proposal_says_what_it_rests_on() -> None:
    (proposed,) = capas.decide_propose(None, WHOLE, "c1", 6.0, 5.0)
    assert isinstance(proposed, events.CapaProposed)
    assert (proposed.answered, proposed.affected, proposed.deviation) == (28, 12, "d1")
    for said in ("28 patients", "12 of them", "1 of 2 sites", "withhold", "6.00", "5.00"):
        assert said in proposed.reason
    assert "22" not in proposed.reason
    shown = [(at.site, at.exposed.patients, at.exposed.cases) for at in proposed.evidence.sites]
    assert shown == [("a", 28, 12), ("b", 22, 0)]
    assert [at.exposed.withheld for at in proposed.evidence.sites] == [False, True]


def test_a_run_gets_one_proposal() -> None:
    assert capas.decide_propose(proposal(), WHOLE, "c1", 6.0, 5.0) == []


def test_approval_opens_change_control_and_changes_nothing_yet() -> None:
    (signed,) = capas.decide_approve(proposal(), "qa", "I agree")
    assert isinstance(signed, events.CapaApproved)
    assert (signed.actor, signed.meaning, signed.run) == ("qa", "I agree", "r1")


def test_a_refusal_says_who_and_why_and_is_all_that_happens() -> None:
    (refused,) = capas.decide_refuse(proposal(), "qa", "one site alone", "I refuse")
    assert isinstance(refused, events.CapaRefused)
    assert (refused.capa, refused.run) == ("c1", "r1")
    assert (refused.actor, refused.reason, refused.meaning) == ("qa", "one site alone", "I refuse")
    row = lists.moved(lists.proposed(None, proposal().message(), "2026"), refused, "2027")
    assert (row.state, row.actor) == ("refused", ""), "nobody approved it"
    assert events.CapaRefused.FromString(row.refused) == refused
    last = row.history[-1]
    assert (last.event, last.actor, last.statement, last.meaning) == (
        "CapaRefused", "qa", "one site alone", "I refuse",
    )  # fmt: skip


@pytest.mark.parametrize(("first", "second"), [("approved", "refuse"), ("refused", "approve")])
def test_of_two_people_who_decide_at_once_the_second_is_told_of_the_first(first: str, second: str) -> None:
    held = capa_in(first)
    with pytest.raises(Refusal, match=rf"that is {first} \(by qa\)"):
        STEPS[second](held)


@pytest.mark.parametrize("first", [validate, assess], ids=["validation first", "filing first"])
def test_the_limit_changes_with_the_second_record_of_change_control(first: Any) -> None:
    second = assess if first is validate else validate
    held = approved()
    (record,) = first(held)
    assert record.run == "r1"
    held = fold(held, [record])
    assert held.state == "approved"
    record, changed, insight = second(held)
    assert isinstance(changed, events.ProcessLimitChanged)
    assert isinstance(insight, events.InsightPublished)
    assert (changed.limit_before, changed.limit_after, changed.capa) == (6.0, 5.0, "c1")
    assert changed.version == 3
    assert (insight.answered, insight.affected, insight.suppressed) == (28, 12, False)
    assert "12 of 28" in insight.statement
    assert fold(held, [record, changed, insight]).state == "effective"


def _released(*told: Row, plans: int = 30) -> tuple[Release, ...]:
    return tuple(Release(f"s{n}", 1, row, Row(), final_plans=plans) for n, row in enumerate(told))


@pytest.mark.parametrize(
    ("releases", "narrowest", "kept"),
    [
        ((), 0.0, events.LIMIT_KEPT_NOBODY_FOLLOWED),
        (_released(Row(0, 0), plans=0), 0.0, events.LIMIT_KEPT_NOBODY_FOLLOWED),
        (_released(Row(28, None), Row()), 0.0, events.LIMIT_KEPT_WITHHELD),
        (_released(Row(0, 0)), 0.0, events.LIMIT_KEPT_NO_ANSWERS),
        (_released(Row(28, 0), Row(12, None)), 0.0, events.LIMIT_KEPT_NO_COMPLAINTS),
        (_released(Row(2000, 1)), 2.0, events.LIMIT_KEPT_TOO_FEW),
        (_released(Row(28, 12)), 2.7, events.LIMIT_KEPT_NARROWEST),
    ],
)
def test_a_limit_that_stays_says_what_is_lacking(
    releases: tuple[Release, ...], narrowest: float, kept: events.LimitKept
) -> None:
    held = replace(WHOLE, releases=releases)
    (stays,) = capas.decide_propose(None, held, "c1", 2.7, 2.7, narrowest)
    (moves,) = capas.decide_propose(None, held, "c1", 2.7, 2.5, narrowest)
    assert isinstance(stays, events.CapaProposed)
    assert isinstance(moves, events.CapaProposed)
    assert (stays.kept, moves.kept) == (kept, events.LIMIT_KEPT_UNSPECIFIED)
    assert "stays at 2.70" in stays.reason


@pytest.mark.parametrize(("after", "said"), [(2.5, "from 2.7 to 2.5 spreads"), (2.7, "stays at 2.7 spreads")])
def test_the_history_says_whether_the_limit_moved(after: float, said: str) -> None:
    changed = events.ProcessLimitChanged(tag="Temp", limit_before=2.7, limit_after=after, capa="c1")
    row = lists.moved(None, changed, "2026")
    assert row.history[-1].statement == f"limit of Temp {said}"


def test_a_limit_tightened_further_in_the_meantime_stays() -> None:
    changed = in_force(approved(), limit_now=4.5)[0]
    assert isinstance(changed, events.ProcessLimitChanged)
    assert (changed.limit_before, changed.limit_after) == (4.5, 4.5)


STEPS: dict[str, Callable[[Capa | None], list[Message]]] = {
    "approve": lambda held: capas.decide_approve(held, "qa", "I agree"),
    "refuse": lambda held: capas.decide_refuse(held, "qa", "one site", "I refuse"),
    "validate": validate,
    "assess": assess,
    "check": check,
}
LEGAL = {
    ("proposed", "approve"),
    ("proposed", "refuse"),
    ("approved", "validate"),
    ("approved", "assess"),
    ("validated", "assess"),
    ("effective", "check"),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("state", ["proposed", "approved", "validated", "effective", "closed", "refused"])
def test_every_state_takes_its_steps_and_refuses_the_others_with_the_reason(state: str, step: str) -> None:
    held = capa_in(state)
    if (state, step) in LEGAL:
        assert STEPS[step](held)
        return
    with pytest.raises(Refusal) as refused:
        STEPS[step](held)
    twice = (state, step) == ("validated", "validate")
    assert refused.value.reason == ("ALREADY_RECORDED" if twice else "ILLEGAL_TRANSITION")
    assert refused.value.field == "capa"


@pytest.mark.parametrize(
    ("decide", "told"),
    [
        (lambda: capas.decide_approve(proposal(), "qa", " "), ("REQUIRED", "meaning")),
        (lambda: capas.decide_refuse(proposal(), "qa", " ", "I refuse"), ("REQUIRED", "reason")),
        (lambda: capas.decide_refuse(proposal(), "qa", "one site", ""), ("REQUIRED", "meaning")),
        (lambda: validate(approved(), record=""), ("REQUIRED", "record")),
        (lambda: validate(approved(), statement=" "), ("REQUIRED", "statement")),
        (lambda: assess(approved(), category=0), ("REQUIRED", "category")),
        (lambda: assess(approved(), statement=""), ("REQUIRED", "statement")),
        (
            lambda: assess(approved(), category=events.FILING_CATEGORY_PRIOR_APPROVAL),
            ("REQUIRED", "reference"),
        ),
        (lambda: assess(approved(), category=events.FILING_CATEGORY_NOTIFICATION), ("REQUIRED", "reference")),
        (lambda: check(capa_in("effective"), outcome=0), ("REQUIRED", "outcome")),
        (lambda: check(capa_in("effective"), statement=""), ("REQUIRED", "statement")),
    ],
)
def test_what_the_record_needs_is_asked_for(
    decide: Callable[[], list[Message]], told: tuple[str, str]
) -> None:
    with pytest.raises(Malformed) as refused:
        decide()
    assert (refused.value.reason, refused.value.field) == told


@pytest.mark.parametrize("step", STEPS)
def test_an_action_that_is_not_known_is_absent(step: str) -> None:
    with pytest.raises(Absent) as refused:
        STEPS[step](None)
    assert (refused.value.reason, refused.value.field) == ("UNKNOWN_CAPA", "capa")


@pytest.mark.parametrize(
    ("answered", "affected", "shown"),
    [
        (0, 0, False),
        (9, 0, False),
        (9, 9, False),
        (10, 0, True),
        (10, 1, False),
        (10, 10, True),
        (19, 9, False),
        (19, 10, False),
        (20, 10, True),
        (100, 9, False),
        (100, 91, False),
        (100, 90, True),
    ],
)
def test_no_count_below_ten_is_published_or_can_be_worked_out(
    answered: int, affected: int, shown: bool
) -> None:
    counts = publishable(answered, affected)
    assert counts == ((answered, affected, False) if shown else (0, 0, True))


def test_a_suppressed_statement_carries_no_count() -> None:
    withheld = Release("a", 1, Row(), Row(), final_plans=8)
    few = replace(WHOLE, answers=(SiteAnswers("a", 8, 7, True),), releases=(withheld,), sites=("a",))
    (proposed,) = capas.decide_propose(None, few, "c1", 6.0, 6.0)
    assert isinstance(proposed, events.CapaProposed)
    assert "withheld" in proposed.reason
    assert not any(count in proposed.reason for count in "78")
    insight = in_force(approved(capas.evolve(None, proposed)))[1]
    assert isinstance(insight, events.InsightPublished)
    assert (insight.answered, insight.affected, insight.suppressed) == (0, 0, True)
    assert "7" not in insight.statement
    assert "withheld" in insight.statement


@pytest.mark.parametrize(
    "lacking",
    [
        {"tag": ""},
        {"version": -1},
        {"version": 2},
        {"sealed": -1},
        {"answers": WHOLE.answers[:1]},
        {"answers": (WHOLE.answers[0], replace(WHOLE.answers[1], complete=False))},
        {"releases": WHOLE.releases[:1]},
        {"releases": (WHOLE.releases[0], replace(WHOLE.releases[1], final_plans=-1))},
        {"answers": (replace(WHOLE.answers[0], plans=31), WHOLE.answers[1])},
    ],
    ids=[
        "subject",
        "announcement",
        "announcement as new as the seal",
        "seal",
        "a site",
        "a site's end",
        "a site's release",
        "a site's last release",
        "a release of as many plans",
    ],
)
def test_evidence_that_lacks_a_part_is_not_whole(lacking: dict[str, object]) -> None:
    assert evidence.is_whole(WHOLE)
    assert not evidence.is_whole(replace(WHOLE, **lacking))  # type: ignore[arg-type]


def released(site: str, number: int, *, final: bool, plans: int) -> clinical.EvidenceReleased:
    """What WHOLE holds of the site."""
    at = next(release for release in WHOLE.releases if release.site == site)
    message = clinical.EvidenceReleased(run="r1", site=site, number=number, final=final, plans=plans)
    for row, whole in ((message.exposed, at.exposed), (message.comparators, at.comparators)):
        row.patients, row.withheld, row.cases = whole.patients, whole.cases is None, whole.cases or 0
    return message


def test_a_summary_of_before_small_numbers_were_withheld_is_evidence_by_itself() -> None:
    old = clinical.ResponsesSummarised(site="a", plans=9, answered=8, affected=3, complete=True)
    held = evidence.answered_openly(replace(WHOLE, answers=(), releases=(), sites=("a",)), old)
    assert evidence.is_whole(held)
    assert (held.answered, held.affected) == (8, 3)


def test_an_older_release_of_a_site_changes_nothing() -> None:
    newest = released("a", 2, final=True, plans=30)
    held = evidence.released(Evidence("r1"), newest)
    assert evidence.released(held, released("a", 1, final=False, plans=30)) == held


def test_the_parts_of_a_run_may_come_in_any_order() -> None:
    announcement = traceability.ExposureAnnounced(run="r1", version=3, root="m/item/API/1")
    for site in ("a", "b"):
        announcement.sites[site].epoch = 1
    earlier = traceability.ExposureAnnounced(run="r1", version=1, root="m/item/API/1")
    parts: list[Callable[[Evidence], Evidence]] = [
        lambda e: evidence.opened(
            e,
            loops.SafetyRunOpened(
                run="r1", lot="m/item/API/1", deviation="d1", product="m/item/API", tag="Temp"
            ),
        ),
        lambda e: evidence.announced(e, announcement),
        lambda e: evidence.announced(e, earlier),
        lambda e: evidence.sealed(e, traceability.ExposureSealed(run="r1", version=3)),
        *(
            lambda e, s=site: evidence.answered(
                e,
                clinical.FollowUpSummarised(
                    site=s.site, plans=s.plans, answered=s.answered, complete=s.complete
                ),
            )
            for site in WHOLE.answers
        ),
        lambda e: evidence.released(e, released("a", 2, final=True, plans=30)),
        lambda e: evidence.released(e, released("b", 1, final=True, plans=24)),
    ]
    for order in itertools.islice(itertools.permutations(parts), 0, None, 37):
        held = Evidence("r1")
        for put in order:
            held = put(held)
        assert held == WHOLE


def test_a_changed_limit_is_in_force_from_its_moment_on() -> None:
    first = events.ProcessLimitChanged(product="p", tag="Temp", limit_after=5.0, capa="c1")
    second = events.ProcessLimitChanged(product="p", tag="Temp", limit_after=4.0, capa="c2")
    held = limits.change(limits.change(None, second, "2026-03-02"), first, "2026-03-01")
    assert held == limits.change(held, first, "2026-03-01"), "a repeat has no effect"
    assert held.at("2026-02-28") == {}
    assert held.at("2026-03-01") == {"Temp": 5.0}
    assert held.now() == {"Temp": 4.0}


def test_the_limit_in_force_is_the_signed_one_then_the_models_then_the_given() -> None:
    model = events.GoldenModelTrained(tags=[events.TagModel(tag="Temp", limit=6.0)])
    changed = limits.change(None, events.ProcessLimitChanged(tag="Temp", limit_after=5.0), "2026")
    assert limits.in_force("Temp", changed, model, 7.0) == 5.0
    assert limits.in_force("Temp", None, model, 7.0) == 6.0
    assert limits.in_force("Other", changed, model, 7.0) == 7.0
