"""What a site takes from the topics: the first word on a study and on a key counts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message

from pharmaloop.exchange.v1 import events_pb2 as events
from services.exchange.site.seen import SEEN, SeenDataset, signing_keys
from services.kit.envelope import Event

AT = datetime(2026, 3, 1, tzinfo=UTC)


def _told(*messages: Message) -> Any:
    held: Any = None
    for n, message in enumerate(messages):
        event = Event(id=str(n), source="/svc/exchange", subject="", time=AT, message=message, key="s1")
        held = SEEN[type(message)].fold(held, event)
    return held


def test_a_study_that_is_told_anew_after_the_approval_stays_what_was_approved() -> None:
    first = events.StudyRequested(study="s1", model="logistic", specification="{}")
    other = events.StudyRequested(study="s1", model="cox", specification="{}")
    held = _told(first, events.StudyApproved(study="s1", site="hospital-a"), other)
    assert held.message().model == "logistic"
    assert held.approved == ("hospital-a",)


def test_a_study_that_failed_is_over_and_one_that_is_suspended_is_not() -> None:
    asked = events.StudyRequested(study="s1")
    assert not _told(asked, events.JobEnded(study="s1", job="j", suspended=True)).over
    assert _told(asked, events.JobEnded(study="s1", job="j", suspended=False)).over


def test_a_site_in_whose_name_a_second_key_is_told_has_no_key() -> None:
    own, other = SeenDataset("hospital-a", b"a" * 32), SeenDataset("hospital-b", b"b" * 32)
    false = SeenDataset("hospital-b", b"x" * 32)
    assert signing_keys([own, other, other]) == {"hospital-a": b"a" * 32, "hospital-b": b"b" * 32}
    assert signing_keys([own, other, false]) == {"hospital-a": b"a" * 32}


def test_a_dataset_keeps_the_key_that_it_was_told_with_first() -> None:
    first = events.DatasetRegistered(dataset="hospital-b/routine", site="hospital-b", signing_key=b"b" * 32)
    other = events.DatasetRegistered(dataset="hospital-b/routine", site="hospital-b", signing_key=b"x" * 32)
    assert _told(first, other).signing_key == b"b" * 32
