"""The site's board: plans, who is overdue, what differs; and the lists behind its numbers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pharmaloop.clinical.v1 import service_pb2 as api
from services.kit.errors import Unknown
from tests.unit.clinical.door import Door
from tests.unit.clinical.passing import pass_time
from tests.unit.clinical.patches import template
from tests.unit.clinical.teller import LOT, RUN, Teller
from tests.unit.clinical.test_courses import explain

ONLY_IN_TRACE = api.EXPOSURE_DIFFERENCE_ONLY_IN_TRACE
ONLY_AT_SITE = api.EXPOSURE_DIFFERENCE_ONLY_AT_SITE


@pytest.fixture
def told() -> Teller:
    """A run of three patients, of whom one does not consent; asked for five days."""
    teller = Teller()
    teller.register(template(hours=120))
    for name in ("P-1", "P-2", "P-3"):
        teller.subject(name, consent=name != "P-3")
    teller.enter("P-1", "P-2", "P-3")
    return teller


@pytest.fixture
def door(told: Teller, tmp_path: Path) -> Door:
    return Door(told, tmp_path / "keys")


def _ask(door: Door, method: str, request: Any) -> Any:
    return asyncio.run(door.call(method, request))


def _row(door: Door) -> api.RunBoard:
    (row,) = _ask(door, "GetSiteBoard", api.GetSiteBoardRequest()).runs
    assert isinstance(row, api.RunBoard)
    return row


def _overdue(door: Door) -> list[str]:
    answer = _ask(door, "ListPlans", api.ListPlansRequest(only_overdue=True))
    assert all(plan.overdue for plan in answer.plans)
    return sorted(plan.plan.pseudonym for plan in answer.plans)


def test_a_draft_awaits_nobody(door: Door) -> None:
    pass_time(door.told, 80)
    row = _row(door)
    assert (row.run, row.draft, row.plans, row.awaited, row.overdue, row.notices_owed) == (
        RUN,
        True,
        2,
        0,
        0,
        0,
    )
    assert dict(row.patients) == {"open": 2, "declined": 1}
    assert not row.HasField("ends")
    assert not _overdue(door)


def test_who_was_reminded_is_overdue_and_after_three_days_late(door: Door, told: Teller) -> None:
    told.hazard()
    pass_time(told, 23)
    row = _row(door)
    assert (row.awaited, row.overdue, row.hazard_class[-2:], row.notices_owed) == (2, 0, "II", 3)
    told.answer("P-1", days=-1)
    pass_time(told, 2)
    row = _row(door)
    assert (row.answered, row.awaited, row.overdue, row.late) == (1, 1, 1, 0)
    assert _overdue(door) == ["P-2"]
    pass_time(told, 48)
    assert (_row(door).overdue, _row(door).late) == (1, 1)
    told.answer("P-2", days=-4)
    assert (_row(door).awaited, _row(door).overdue, _overdue(door)) == (0, 0, [])


def test_a_short_follow_up_without_reminders_is_late_at_its_end(tmp_path: Path) -> None:
    told = Teller()  # eight hours
    told.subject("P-1")
    told.enter("P-1")
    told.hazard()
    door = Door(told, tmp_path / "keys")
    pass_time(told, 7)
    assert _row(door).late == 0
    pass_time(told, 1)
    assert (_row(door).overdue, _row(door).late, _overdue(door)) == (1, 1, ["P-1"])


def test_a_page_without_anybody_overdue_is_read_over(told: Teller, door: Door) -> None:
    told.hazard()
    pass_time(told, 25)
    found, token = [], ""
    while True:
        request = api.ListPlansRequest(only_overdue=True, page_size=1, page_token=token)
        answer = _ask(door, "ListPlans", request)
        found += [plan.plan.pseudonym for plan in answer.plans]
        token = answer.next_page_token
        if not token:
            break
    assert sorted(found) == ["P-1", "P-2"]


def _differences(door: Door, **asked: Any) -> dict[str, api.ExposureDifference]:
    request = api.ListExposuresRequest(run=RUN, only_differences=True, **asked)
    answer = _ask(door, "ListExposures", request)
    assert answer.total == len(answer.exposures)
    return {row.pseudonym: row.difference for row in answer.exposures}


def test_differences_are_listed_alone_whichever_source_lacks_it(told: Teller, door: Door) -> None:
    told.own("P-1")
    told.became("P-3", "RETURNED_UNOPENED")
    told.own("P-9", order="order-unheard")
    row = _row(door)
    assert (row.only_in_trace, row.only_at_site, row.explained) == (1, 1, 0)
    assert _differences(door) == {"P-2": ONLY_IN_TRACE, "P-9": ONLY_AT_SITE}
    rows = _ask(door, "ListExposures", api.ListExposuresRequest(run=RUN)).exposures
    assert {row.pseudonym: row.difference for row in rows} == {"P-1": 0, "P-2": ONLY_IN_TRACE, "P-3": 0}


def test_an_explained_difference_is_resolved(told: Teller, door: Door) -> None:
    (dispense,) = (
        row.dispense
        for row in _ask(door, "ListExposures", api.ListExposuresRequest(run=RUN)).exposures
        if row.pseudonym == "P-2"
    )
    for name in ("P-1", "P-3"):
        told.own(name)
    assert _differences(door) == {"P-2": ONLY_IN_TRACE}
    explain(told, dispense)
    assert not _differences(door)
    assert (_row(door).only_in_trace, _row(door).explained) == (0, 1)


def test_a_run_that_is_not_held_is_named(door: Door) -> None:
    with pytest.raises(Unknown) as refusal:
        _ask(door, "GetSiteBoard", api.GetSiteBoardRequest(run="nowhere"))
    assert (refusal.value.reason, refusal.value.field) == ("UNKNOWN_RUN", "run")
    assert [row.run for row in _ask(door, "GetSiteBoard", api.GetSiteBoardRequest(run=RUN)).runs] == [RUN]


def test_another_site_is_refused(door: Door) -> None:
    with pytest.raises(Unknown) as refusal:
        _ask(door, "GetSiteBoard", api.GetSiteBoardRequest(site="hospital-z"))
    assert refusal.value.field == "site"


def test_the_board_names_no_patient_and_no_lot(told: Teller, door: Door) -> None:
    told.hazard()
    text = str(_ask(door, "GetSiteBoard", api.GetSiteBoardRequest()))
    assert "P-" not in text
    assert LOT not in text
