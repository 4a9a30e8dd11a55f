"""A run's evidence at the site against statsmodels on the rows, and what of it leaves the site."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import StratifiedTable

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from services.clinical.domain import releases
from services.clinical.domain.evidence.mantel_haenszel import sums
from services.clinical.domain.evidence.sequential import Look
from services.clinical.domain.evidence.tables import PROMPTED, Cells, Table, stratum_of
from services.clinical.domain.plans import FOLLOW_UP_HOURS
from services.kit.ids import lot_key
from services.kit.sealing import subject_key
from tests.unit.clinical.memory_site import SITE
from tests.unit.clinical.study_site import SIBLING, Person, StudySite, exposed_run
from tests.unit.clinical.teller import LOT, RUN


def crowd(exposed: int, others: int) -> list[Person]:
    draw = random.Random(3)
    plain = [Person(f"P-{n}", LOT) for n in range(exposed)]
    plain += [Person(f"C-{n}", SIBLING) for n in range(others)]
    return [
        replace(p, age=draw.choice((30, 50, 70)), sex=draw.choice("FM"), days_ago=draw.choice((4, 9, 20)))
        for p in plain
    ]


def answered(people: list[Person]) -> tuple[StudySite, dict[str, bool]]:
    """Everybody who is asked answers: half of the exposed with a complaint, a fifth of the others."""
    site, draw = exposed_run(*people), random.Random(5)
    said: dict[str, bool] = {}
    asked = [p for p in people if p.lot == LOT or p.pseudonym in site.comparators()]
    for person in asked:
        said[person.pseudonym] = draw.random() < (0.5 if person.lot == LOT else 0.2)
        site.reply(person.pseudonym, said[person.pseudonym])
        site.work()
    return site, said


def prompted(site: StudySite) -> list[api.LotEvidence]:
    return [lot for lot in site.evidence().lots if lot.kind == clinical.OUTCOME_KIND_PROMPTED]


def test_the_risk_ratio_and_the_test_are_those_of_statsmodels_on_the_rows() -> None:
    people = crowd(60, 150)
    site, said = answered(people)
    cells: dict[object, np.ndarray] = defaultdict(lambda: np.zeros((2, 2)))
    for person in people:
        if person.pseudonym in said:
            row, column = int(person.lot != LOT), int(not said[person.pseudonym])
            cells[stratum_of(person.age, person.sex)][row, column] += 1
    reference = StratifiedTable(list(cells.values()))
    (lot,) = prompted(site)
    assert (lot.lot, lot.whole, lot.kind) == (LOT, True, clinical.OUTCOME_KIND_PROMPTED)
    assert lot.risk_ratio.value == pytest.approx(reference.riskratio_pooled, rel=1e-9)
    assert lot.chi_square == pytest.approx(reference.test_null_odds().statistic, rel=1e-9)
    assert lot.risk_ratio.lower < lot.risk_ratio.value < lot.risk_ratio.upper
    assert sum(s.exposed for s in lot.strata) == 60
    assert sum(s.comparators for s in lot.strata) == 120


def test_time_runs_from_the_pack_to_the_answer_and_is_split_by_lot() -> None:
    people = crowd(12, 30)
    site, said = answered(people)
    wanted: dict[str, float] = defaultdict(float)
    for person in people:
        if person.pseudonym in said:
            wanted[person.lot] += person.days_ago - 1  # everybody answers a day before the runs begin
    found = site.evidence().person_days
    assert set(found) == {LOT, SIBLING}
    for lot, days in wanted.items():
        assert found[lot] == pytest.approx(days, rel=1e-9)
    (whole,) = prompted(site)
    at_risk = sum(s.exposed_days for s in whole.strata)
    # A case is at risk until its complaint, which is counted at the end of its time on the lot.
    assert at_risk == pytest.approx(wanted[LOT], rel=1e-6)


def test_an_answer_is_in_the_evidence_at_once() -> None:
    site = exposed_run(Person("P-1", LOT))
    assert sum(s.exposed for lot in prompted(site) for s in lot.strata) == 0
    site.reply("P-1", affected=True)
    (stratum,) = prompted(site)[0].strata
    assert (stratum.exposed, stratum.exposed_cases, stratum.age_from, stratum.sex) == (1, 1, 45, "F")


def test_a_patient_whose_key_was_destroyed_is_counted_without_age_and_sex() -> None:
    site = exposed_run(Person("P-1", LOT))
    site.reply("P-1", affected=True)
    site.keys.destroy(subject_key(SITE, "P-1"))
    (stratum,) = prompted(site)[0].strata
    assert (stratum.exposed_cases, stratum.age_from, stratum.sex) == (1, -1, "U")


def test_of_few_patients_nothing_is_told_but_that_the_follow_up_is_over() -> None:
    site, said = answered(crowd(4, 8))
    assert any(said.values())
    (released,) = site.released()
    assert released.final
    assert released.plans == 4
    for row in (released.exposed, released.comparators):
        assert (row.patients, row.cases, row.withheld) == (0, 0, True)
    assert not released.HasField("sums")


def test_what_is_told_comes_after_ten_more_answers_and_is_never_of_fewer_than_ten() -> None:
    site, said = answered(crowd(60, 150))
    told = [(r.exposed, r.comparators) for r in site.released()]
    assert len(told) > 3
    for place in (0, 1):
        for name in ("patients", "cases"):
            counts = sorted({getattr(rows[place], name) for rows in told} | {0})
            assert all(later - earlier >= 10 for earlier, later in pairwise(counts))
    assert [released.number for released in site.released()] == list(range(1, len(told) + 1))
    assert [released.final for released in site.released()] == [False] * (len(told) - 1) + [True]
    last = site.released()[-1]
    assert last.exposed.cases <= sum(said[f"P-{n}"] for n in range(60))


def test_few_comparators_are_withheld_and_do_not_silence_the_exposed() -> None:
    site, _ = answered(crowd(30, 6))
    last = site.released()[-1]
    assert last.final
    assert last.exposed.patients >= 20
    assert last.comparators == clinical.ReleasedRow(withheld=True)
    assert not last.HasField("sums")


def test_no_event_that_leaves_the_site_tells_complaints_but_a_release() -> None:
    site, _ = answered(crowd(12, 24))
    shared = [row for row in site.site.rows() if f".{SITE}." not in row.topic]
    types = {dict(row.headers)["ce_type"].decode().rpartition(".")[2] for row in shared}
    assert types == {
        "ExposureReceived",
        "PlansOpened",
        "NoticesSummarised",
        "FollowUpSummarised",
        "EvidenceReleased",
    }
    assert not {"affected", "lots"} & set(clinical.FollowUpSummarised.DESCRIPTOR.fields_by_name)


def test_the_end_is_told_when_the_time_of_those_who_are_silent_is_over() -> None:
    site = exposed_run(Person("P-1", LOT), Person("C-1", SIBLING))
    site.reply("P-1")
    site.work()
    assert site.summary.complete
    assert not site.released()
    site.site.clock.advance(3600 * FOLLOW_UP_HOURS)
    site.work()
    assert [released.final for released in site.released()] == [True]


def test_a_run_without_patients_tells_its_end_at_once() -> None:
    site = StudySite()
    site.announce()
    site.work()
    assert [(r.final, r.plans) for r in site.released()] == [(True, 0)]


def test_an_end_that_comes_back_is_told_again() -> None:
    """A kit has no comparators, so its follow-up is over with its patient's answer."""
    kit = lot_key("maker", "kit", "STUDY-1", "K001")
    site = StudySite()
    site.hazard()
    site.announce()
    site.work()
    site.people([Person("P-1", kit)])
    site.enter("P-1", lot=kit)
    site.work()
    site.reply("P-1")
    site.work()
    site.became("P-1", "CORRECTED", lot=kit)
    site.work()
    assert [r.plans for r in site.released() if r.final] == [0, 1, 0]
    assert not site.comparators()


def seen_of(exposed: int, share: float) -> clinical.EvidenceReleased:
    """One stratum: a share of the exposed has a complaint, and a tenth of twice as many others."""
    cells = Cells(round(exposed * share), exposed, round(exposed * 0.2), 2 * exposed)
    total = sums(Table(PROMPTED, {stratum_of(50, "F"): cells}))
    return clinical.EvidenceReleased(
        run=RUN,
        site=SITE,
        lot=LOT,
        exposed=clinical.ReleasedRow(patients=cells.n1, cases=cells.a),
        comparators=clinical.ReleasedRow(patients=cells.n0, cases=cells.b),
        sums=clinical.EvidenceSums(r=total.r, s=total.s, v=total.v),
    )


def looks_at(counts: range, share: float) -> list[Look]:
    """The looks of a site that reviews its evidence at these counts of exposed patients."""
    state = releases.Releases()
    for exposed in counts:
        for message in list(releases.review(state, seen_of(exposed, share))):
            state = releases.evolve(state, message)
    return list(state.looks)


def test_looks_are_taken_at_planned_information_only() -> None:
    """At thirds of the information that was fixed before: however often the site reviews, it looks thrice."""
    looks = looks_at(range(10, 1200, 10), 0.1)
    maximum = releases.design().max_information
    assert len(looks) == 3
    for look, fraction in zip(looks, (1 / 3, 2 / 3, 1), strict=True):
        assert maximum * fraction <= look.information < maximum * fraction + 1
    assert not any(look.signal for look in looks)


def test_a_harm_that_is_seen_ends_the_looks() -> None:
    looks = looks_at(range(10, 1200, 10), 0.4)
    assert [look.signal for look in looks] == [False] * (len(looks) - 1) + [True]
    assert len(looks) < 3
