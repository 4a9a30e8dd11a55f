"""Who is compared with the exposed of a run, and that nothing else of the run notices."""

from __future__ import annotations

import random
from itertools import permutations

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.clinical.domain.comparators import RATIO, Candidate, Choice, in_order
from services.clinical.domain.evidence.prompted import Group
from services.clinical.domain.templates import DEFAULT
from services.clinical.handlers.comparators import plan_of
from services.clinical.views import HOLDINGS, PLANS
from services.kit.ids import dispense_id
from services.kit.work import moment_text
from tests.unit.clinical.memory_site import SITE, START, MemorySite, moment, stamp
from tests.unit.clinical.study_site import SIBLING, STRANGE, Person, StudySite, exposed_run
from tests.unit.clinical.teller import LOT, RUN
from tests.unit.memory_service import Said


def siblings(count: int, lot: str = SIBLING) -> list[Person]:
    return [Person(f"C-{number}", lot) for number in range(count)]


def named_in_another_run(site: StudySite, pseudonym: str, *became: str) -> None:
    """The journal of a second run names the patient for a lot of their own."""
    lot = "maker/gtin/A/L.5"
    for number, name in enumerate(("UNSPECIFIED", *became)):
        entry = traceability.ExposureEntry(
            kind=traceability.ENTRY_KIND_DISPOSITION if number else traceability.ENTRY_KIND_MEMBER,
            dispense=dispense_id(SITE, "another", lot),
            lot=lot,
            pseudonym=pseudonym,
            at=stamp(START),
            number=number,
            disposition=f"DISPOSITION_{name}",
        )
        told = traceability.ExposureEntriesJoined(run="run-2", site=SITE, epoch=1, entries=[entry])
        source = "/svc/traceability/journal/2"
        seq = number + len(site.site.rows()) + 1
        site.site.deliver(Said(told, source, seq, f"{source}#{seq}", START, lot, "run-2"))


def test_for_each_exposed_at_most_two_who_received_a_sibling_lot() -> None:
    site = exposed_run(Person("P-1", LOT), Person("P-2", LOT), *siblings(9), Person("S-1", STRANGE))
    assert len(site.comparators()) == 2 * RATIO
    assert site.comparators() <= {person.pseudonym for person in siblings(9)}
    plans = [plan for event in site.site.all(clinical.ComparatorsChosen) for plan in event.plans]
    assert {(tuple(plan.lots), plan.role) for plan in plans} == {((SIBLING,), clinical.PLAN_ROLE_COMPARATOR)}
    asked = {plan.question for plan in site.plans()}
    assert {plan.question for plan in plans} == asked


def test_nobody_is_chosen_who_received_it_at_another_time_or_does_not_consent() -> None:
    site = StudySite()
    site.people([Person("P-1", LOT), Person("C-1", SIBLING, days_ago=80), Person("C-2", SIBLING)])
    site.subject("C-2", consent=False, days=5)
    site.enter("P-1")
    site.hazard()
    site.work()
    (chosen,) = site.site.all(clinical.ComparatorsChosen)
    assert (list(chosen.plans), chosen.exposed) == ([], 1)
    assert site.holding.cohort.chosen_for == 1


def test_nobody_is_chosen_while_the_hazard_is_not_evaluated() -> None:
    site = StudySite()
    site.people([Person("P-1", LOT), *siblings(3)])
    site.enter("P-1")
    site.work()
    assert not site.site.all(clinical.ComparatorsChosen)


def test_more_are_chosen_when_the_run_grows() -> None:
    site = exposed_run(Person("P-1", LOT), *siblings(9))
    before = site.comparators()
    site.people([Person("P-2", LOT)])
    site.enter("P-2")
    site.work()
    assert before < site.comparators()
    assert len(site.comparators()) == 2 * RATIO


def test_a_comparator_is_in_no_number_of_the_run() -> None:
    alone, compared = exposed_run(Person("P-1", LOT)), exposed_run(Person("P-1", LOT), *siblings(5))
    for site in (alone, compared):
        site.reply("P-1", affected=True)
        site.work()
    for cls in (clinical.PlansOpened, clinical.NoticesSummarised, clinical.FollowUpSummarised):
        assert compared.site.last(cls, RUN) == alone.site.last(cls, RUN)
    assert compared.summary.complete
    assert not any(plan.notice for plan in compared.site.states(PLANS).values() if plan.role == "comparator")


def test_who_turns_out_to_be_exposed_leaves_and_comes_back_when_that_was_wrong() -> None:
    site = exposed_run(Person("P-1", LOT), *siblings(2))
    assert site.comparators() == {"C-0", "C-1"}
    named_in_another_run(site, "C-0")
    assert (site.comparators(), site.comparators("void")) == ({"C-1"}, {"C-0"})
    named_in_another_run(site, "C-0", "CORRECTED")
    assert site.comparators() == {"C-0", "C-1"}


def test_who_is_in_a_run_in_either_arm_is_not_chosen() -> None:
    site = StudySite()
    site.people([Person("P-1", LOT), *siblings(2)])
    named_in_another_run(site, "C-0")
    site.enter("P-1")
    site.hazard()
    site.work()
    assert site.comparators() == {"C-1"}


def test_a_comparator_who_withdraws_is_not_counted() -> None:
    site = exposed_run(Person("P-1", LOT), *siblings(2))
    site.reply("C-0")
    assert (site.holding.cohort.open, site.holding.cohort.answered) == (2, 1)
    site.subject("C-0", consent=False, days=0)
    assert (site.holding.cohort.open, site.holding.cohort.answered) == (1, 0)


def test_a_run_that_a_person_ended_chooses_nobody() -> None:
    site = StudySite()
    site.people([Person("P-1", LOT), *siblings(2)])
    site.enter("P-1")
    site.trace(loops.LoopClosed(run=RUN, outcome=loops.RUN_OUTCOME_CANCELLED))
    site.hazard()
    site.work()
    assert not site.comparators()


def test_the_order_of_choice_is_the_same_for_every_order_of_records() -> None:
    candidates = [Candidate(f"C-{n}", "maker/gtin/A", (SIBLING,)) for n in range(50)]
    shuffled = random.Random(1).sample(candidates, len(candidates))
    assert in_order(RUN, candidates) == in_order(RUN, shuffled)
    assert in_order(RUN, candidates) != in_order("run-2", candidates)


def _stream() -> list[list[Said]]:
    """Three patients are chosen and answer; one of them is exposed in another run, one withdraws."""
    lot, source = "maker/gtin/A/L.5", "/svc/traceability/journal/2"
    group = Group("maker/gtin/A", DEFAULT.template, DEFAULT.version)
    choices = [Choice(name, (SIBLING,), group) for name in ("C-0", "C-1", "C-2")]
    plans = [plan_of(RUN, choice, DEFAULT, moment_text(START)) for choice in choices]
    chosen = clinical.ComparatorsChosen(run=RUN, site=SITE, exposed=2, plans=plans)
    entry = traceability.ExposureEntry(
        kind=traceability.ENTRY_KIND_MEMBER,
        dispense=dispense_id(SITE, "another", lot),
        lot=lot,
        pseudonym="C-0",
        at=stamp(START),
    )
    joined = traceability.ExposureEntriesJoined(run="run-2", site=SITE, epoch=1, entries=[entry])

    def fact(id: str, message: clinical.SubjectRecorded | clinical.ResponseRecorded) -> list[Said]:
        return [Said(message, "/svc/clinical/fact", None, id, START)]

    def subject(name: str, consent: bool, days: float) -> clinical.SubjectRecorded:
        return clinical.SubjectRecorded(pseudonym=name, site=SITE, consent=consent, at=moment(days))

    answers = [
        clinical.ResponseRecorded(plan=p.plan, site=SITE, pseudonym=p.pseudonym, affected=True, at=moment(1))
        for p in plans
    ]
    return [
        [Said(chosen, "/svc/clinical/evidence", 1, "chosen", START, LOT, RUN)],
        [Said(joined, source, 1, f"{source}#1", START, lot, "run-2")],
        *(fact(f"subject {plan.pseudonym}", subject(plan.pseudonym, True, 30)) for plan in plans),
        fact("withdrawn", subject("C-1", False, 2)),
        *(fact(f"answer {answer.pseudonym}", answer) for answer in answers),
    ]


def test_every_order_ends_in_the_same_comparators() -> None:
    streams = _stream()
    chance = random.Random(7)
    for _ in range(150):
        site = MemorySite()
        for stream in chance.sample(streams, len(streams)):
            site.deliver(*stream)
        _check_stream(site)
    for pair in permutations(streams[:2]):
        site = MemorySite()
        for stream in streams[2:]:
            site.deliver(*stream)
        site.deliver(*pair[0], *pair[1], together=True)
        _check_stream(site)


def _check_stream(site: MemorySite) -> None:
    assert not site.dead_letters()
    plans = {p.pseudonym: p.stage for p in site.states(PLANS).values() if p.role == "comparator"}
    assert plans == {"C-0": "void", "C-1": "declined", "C-2": "open"}
    cohort = site.states(HOLDINGS)[f"{RUN}|{SITE}"].cohort
    assert (cohort.chosen_for, cohort.open, cohort.answered) == (2, 1, 1)
