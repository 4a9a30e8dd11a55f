"""A study stays blinded: nothing in the contract says who has which arm, but what a hospital has sealed."""

from __future__ import annotations

import re

from tests.contract import descriptors as d

#: How a field that tells the arm would be called.
_TELLS = re.compile(r"(^|_)(arm|arms|treatment|allocation|randomi[sz]ation|placebo|blinded|unblinded)(_|$)")
PROFILE = "pharmaloop.clinical.v1.SubjectProfile"


def test_the_arm_stands_in_the_sealed_profile_alone() -> None:
    fields = {f"{m.full_name}.{field.name}" for m in d.messages() for field in m.fields}
    telling = {field for field in fields if _TELLS.search(field.rpartition(".")[2])}
    assert telling == {f"{PROFILE}.arm"}


def _holding(names: set[str]) -> set[str]:
    """The messages that have one of these as a field."""
    return {
        message.full_name
        for message in d.messages()
        for field in message.fields
        if (kind := d.values_of(field)) is not None and kind.full_name in names
    }


def test_a_profile_is_asked_for_and_never_answered_nor_told() -> None:
    """It comes in with RecordSubjects; on the log and in the database it is bytes under the patient's key."""
    holders = _holding({PROFILE})
    assert holders == {"pharmaloop.clinical.v1.Subject"}
    assert _holding(holders) == {"pharmaloop.clinical.v1.RecordSubjectsRequest"}
    assert PROFILE in d.inside_sealed()
    assert not {event.full_name for event in d.events()} & (holders | {PROFILE})
