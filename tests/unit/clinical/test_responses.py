"""What patients answered, read by their own hospital: question by question, words one patient at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from services.kit.errors import Invalid, Unknown
from services.kit.ids import plan_id
from services.kit.sealing import LocalKeys, subject_key
from tests.unit.clinical.door import Door
from tests.unit.clinical.memory_site import SITE, moment
from tests.unit.clinical.passing import pass_time
from tests.unit.clinical.patches import answers, template
from tests.unit.clinical.teller import LOT, RUN, Teller


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def door(keys: Path) -> Door:
    """Three patients who are asked; the first two answer, the first with words."""
    told = Teller()
    told.register(template(hours=120))
    for name in ("P-1", "P-2", "P-3"):
        told.subject(name)
    told.enter("P-1", "P-2", "P-3")
    told.hazard()
    made = Door(told, keys)
    of_words = clinical.QuestionAnswer(question="else", words="My sister Li Na has it too.")
    _answer(made, "P-1", [*answers(itch=True), of_words], words="Call me at home.")
    _answer(made, "P-2", answers())
    return made


def _answer(door: Door, name: str, given: list[clinical.QuestionAnswer], words: str = "") -> None:
    request = api.RecordResponseRequest(
        request_id="00000000-0000-4000-8000-000000000001",
        plan=plan_id(RUN, name),
        pseudonym=name,
        answers=given,
        words=words,
        at=moment(1),
    )
    asyncio.run(door.call("RecordResponse", request))


def _list(door: Door, **asked: Any) -> list[api.PatientResponse]:
    answer = asyncio.run(door.call("ListResponses", api.ListResponsesRequest(**asked)))
    return sorted(answer.responses, key=lambda one: one.pseudonym)


def test_each_question_stands_beside_its_answer(door: Door) -> None:
    first, second = _list(door)
    assert (first.pseudonym, first.affected, first.run, list(first.lots)) == ("P-1", True, RUN, [LOT])
    assert (second.pseudonym, second.affected) == ("P-2", False)
    assert first.at == moment(1).at
    asked = [(one.question.id, one.answer.WhichOneof("value")) for one in first.answers]
    assert asked == [("itch", "yes"), ("fever", "number"), ("dizzy", "choice"), ("else", None)]
    assert first.answers[0].answer.yes
    assert first.answers[1].answer.number == 36.6
    assert not second.answers[3].HasField("answer")


def test_words_are_told_of_one_patient_alone(door: Door) -> None:
    first, second = _list(door)
    assert first.words_withheld
    assert not second.words_withheld
    assert "Li Na" not in str(first)
    assert "at home" not in str(first)
    (one,) = _list(door, pseudonym="P-1", words=True)
    assert (one.words, one.words_withheld) == ("Call me at home.", False)
    assert one.answers[3].answer.words == "My sister Li Na has it too."
    with pytest.raises(Invalid) as refusal:
        _list(door, words=True)
    assert (refusal.value.reason, refusal.value.field) == ("REQUIRED", "pseudonym")


def test_who_was_erased_has_answered_and_nobody_reads_what(door: Door, keys: Path) -> None:
    LocalKeys(keys).destroy(subject_key(SITE, "P-1"))
    first, second = _list(door)
    assert (first.erased, second.erased) == (True, False)
    assert first.affected
    assert not any(one.HasField("answer") for one in first.answers)


def test_who_takes_back_their_consent_is_not_read(door: Door) -> None:
    door.told.subject("P-1", consent=False, days=-2)
    assert [one.pseudonym for one in _list(door)] == ["P-2"]


def test_answers_come_by_run_and_in_pages(door: Door) -> None:
    assert not _list(door, run="another")
    page = asyncio.run(door.call("ListResponses", api.ListResponsesRequest(run=RUN, page_size=1)))
    assert len(page.responses) == 1
    (other,) = _list(door, run=RUN, page_size=1, page_token=page.next_page_token)
    assert {page.responses[0].pseudonym, other.pseudonym} == {"P-1", "P-2"}


def test_another_site_is_refused(door: Door) -> None:
    with pytest.raises(Unknown) as refusal:
        _list(door, site="hospital-z")
    assert refusal.value.field == "site"


def _since(door: Door) -> list[float]:
    """Since how many hours after they were asked plans are overdue."""
    answer = asyncio.run(door.call("ListPlans", api.ListPlansRequest(only_overdue=True)))
    asked = moment(0).at.ToSeconds()
    return [(one.overdue_since.ToSeconds() - asked) / 3600 for one in answer.plans]


def test_a_plan_is_overdue_since_its_first_reminder_whatever_came_later(door: Door) -> None:
    pass_time(door.told, 25)
    first = _since(door)
    assert len(first) == 1  # the two others answered
    pass_time(door.told, 60)
    assert _since(door) == first
    door.told.notice("P-3", "UNREACHABLE")
    (row,) = asyncio.run(door.call("GetSiteBoard", api.GetSiteBoardRequest())).runs
    assert (row.notices_owed, row.notified, row.unreachable) == (2, 0, 1)
