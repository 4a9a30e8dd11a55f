"""Adverse events: the vocabulary, what is asked for and what is reported, and what of it is one event."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.clinical.domain import adverse
from services.clinical.domain.adverse import WINDOW, Course, Report, Source
from services.clinical.domain.vocabulary import OTHER, TERMS, coded
from services.clinical.views import ADVERSE
from services.kit.ids import plan_id
from services.refusals import Malformed
from tests.unit.clinical.memory_site import SITE, START, moment
from tests.unit.clinical.teller import RUN, Teller

ITCHING = "PL0101"


# -- the vocabulary ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("PL0201", "PL0201"),
        ("Dizziness", "PL0201"),
        ("头晕", "PL0201"),
        ("  passed   OUT ", "PL0203"),
        ("拉肚子", "PL0303"),
        ("jaundice", "PL1001"),
    ],
)
def test_a_complaint_is_coded_by_any_of_its_names(name: str, code: str) -> None:
    assert coded(name, "term") == code


def test_what_has_no_name_is_refused_and_the_way_out_is_told() -> None:
    with pytest.raises(Malformed, match=OTHER) as refused:
        coded("hiccups", "term")
    assert (refused.value.reason, refused.value.field) == ("UNKNOWN_TERM", "term")


def test_every_term_has_both_languages_and_no_name_means_two_things() -> None:
    names = [name.casefold() for term in TERMS.values() for name in term.names]
    assert len(names) == len(set(names))
    for term in TERMS.values():
        assert term.en.isascii()
        assert any("\u4e00" <= letter <= "\u9fff" for letter in term.zh)


# -- one event, several sources -------------------------------------------------------------


def report(name: str, day: float, source: Source = "spontaneous", serious: bool = False) -> Report:
    return Report(name, source, (START + timedelta(days=day)).isoformat(timespec="microseconds"), serious)


def course(*reports: Report, term: str = ITCHING) -> Course:
    made = Course("P-1", term)
    for one in reports:
        made = adverse.reported(made, one)
    return made


def test_what_was_answered_and_what_was_reported_is_one_event_with_two_sources() -> None:
    asked, told = report("asked", 3, "solicited"), report("told", 0, serious=True)
    (event,) = adverse.events(course(asked, told))
    assert (event.told_by("solicited"), event.told_by("spontaneous")) == (1, 1)
    assert (event.onset, event.serious) == (told.onset, True)


@pytest.mark.parametrize(("apart", "events"), [(WINDOW, 1), (WINDOW + timedelta(seconds=1), 2)])
def test_beyond_the_window_it_is_another_event(apart: timedelta, events: int) -> None:
    days = apart / timedelta(days=1)
    assert len(adverse.events(course(report("a", 0), report("b", days, "solicited")))) == events


def test_what_is_not_in_the_vocabulary_is_never_taken_for_the_same() -> None:
    found = adverse.events(course(report("a", 0), report("b", 0, "solicited"), term=OTHER))
    assert len(found) == 2


def test_what_a_patient_answered_is_left_out_where_it_may_not_be_used() -> None:
    held = course(report("asked", 0, "solicited"), report("told", 1), report("later", 30, "solicited"))
    (event,) = adverse.events(held, solicited=False)
    assert [one.report for one in event.reports] == ["told"]


_DAYS = st.lists(st.integers(0, 60), min_size=1, max_size=12)


@given(_DAYS, st.randoms())
def test_the_events_are_the_connected_groups_whatever_came_first(days: list[int], rng: object) -> None:
    """Against a brute force: reports within the window of each other are joined until nothing changes."""
    reports = [report(f"r{n}", day) for n, day in enumerate(days)]
    shuffled = list(reports)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    found = adverse.events(course(*shuffled, *reports))
    groups = [{n} for n in range(len(days))]
    while (pair := _joinable(groups, days)) is not None:
        a, b = pair
        groups = [group for group in groups if group not in (a, b)] + [a | b]
    wanted = {frozenset(f"r{n}" for n in group) for group in groups}
    assert {frozenset(one.report for one in event.reports) for event in found} == wanted
    began = [datetime.fromisoformat(event.onset) for event in found]
    assert all(later - earlier > WINDOW for earlier, later in pairwise(began))


def _joinable(groups: list[set[int]], days: list[int]) -> tuple[set[int], set[int]] | None:
    for a in groups:
        for b in groups:
            if a is not b and any(abs(days[m] - days[n]) <= 7 for m in a for n in b):
                return a, b
    return None


# -- at a site --------------------------------------------------------------------------------


def answered(told: Teller, pseudonym: str, *terms: str, days: float = 1) -> None:
    response = clinical.ResponseRecorded(
        plan=plan_id(RUN, pseudonym), site=SITE, pseudonym=pseudonym, affected=bool(terms), at=moment(days)
    )
    for term in terms:
        response.complaints.add(term=term, onset=moment(days))
    told.fact(response, days=days)


def spontaneous(pseudonym: str, term: str, days: float, number: str) -> clinical.AdverseEventRecorded:
    return clinical.AdverseEventRecorded(
        report=number, site=SITE, pseudonym=pseudonym, term=term, onset=moment(days), at=moment(days)
    )


@pytest.mark.parametrize("answer_first", [False, True])
def test_a_complaint_that_both_tell_of_is_kept_once_in_any_order(answer_first: bool) -> None:
    told = Teller()
    if answer_first:
        answered(told, "P-1", ITCHING)
    told.fact(spontaneous("P-1", ITCHING, 3, "AE-1"))
    told.fact(spontaneous("P-2", ITCHING, 3, "AE-2"))
    if not answer_first:
        answered(told, "P-1", ITCHING)
    held = told.site.states(ADVERSE)
    (both,) = adverse.events(held[f"P-1|{ITCHING}"])
    (alone,) = adverse.events(held[f"P-2|{ITCHING}"])
    assert (both.told_by("solicited"), both.told_by("spontaneous")) == (1, 1)
    assert (alone.told_by("solicited"), alone.told_by("spontaneous")) == (0, 1)


def test_a_complaint_stays_when_a_later_answer_tells_of_none() -> None:
    told = Teller()
    told.subject("P-1")
    told.enter("P-1")
    answered(told, "P-1", ITCHING, days=2)
    answered(told, "P-1", days=1)
    assert told.affected == 0
    assert len(adverse.events(told.site.states(ADVERSE)[f"P-1|{ITCHING}"])) == 1
