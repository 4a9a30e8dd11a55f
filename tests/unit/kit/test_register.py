"""Mixed versions: a newer contract stops the old build, garbage does not."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from google.protobuf.struct_pb2 import Struct

from pharmaloop.rnd.v1.events_pb2 import InsightRecorded
from services.kit.bus.register import Installed, check_contract, digest_of, installed_contract
from services.kit.contracts import contract
from services.kit.errors import Integrity, Poison, Retryable

NEWER = "pharmaloop.rnd.v1.InsightWithdrawn"
MINE = contract()
SAME = Installed(4, digest_of(MINE), tuple(sorted(MINE.classes)))
LATER = Installed(5, "0123456789ab", tuple(sorted([*MINE.classes, NEWER])))


class Register:
    """What the migrations wrote down, and how often it was read."""

    def __init__(self, installed: Installed | None) -> None:
        self.installed = installed
        self.reads = 0

    def __call__(self) -> Installed | None:
        self.reads += 1
        return self.installed


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_an_event_of_the_installations_contract_stops_who_does_not_know_it() -> None:
    with pytest.raises(Integrity, match="upgrade this service first") as caught:
        installed_contract(Register(LATER), MINE).class_of(NEWER)
    assert NEWER in str(caught.value)
    assert "revision 5" in str(caught.value)


def test_what_nobody_has_is_garbage_and_is_not_asked_for_again_and_again(now: list[float]) -> None:
    read = Register(SAME)
    mine = installed_contract(read, MINE)
    for _ in range(50):
        with pytest.raises(Poison, match="UNKNOWN_TYPE"):
            mine.class_of("pharmaloop.rnd.v1.Garbage")
    assert read.reads == 1
    for number in range(50):  # of every kind
        with pytest.raises(Poison):
            mine.class_of(f"pharmaloop.rnd.v1.Garbage{number}")
    assert read.reads == 1
    now[0] += 2
    read.installed = LATER
    with pytest.raises(Integrity):
        mine.class_of(NEWER)


def test_other_peoples_names_are_never_of_a_newer_contract() -> None:
    read = Register(replace(LATER, types=("com.example.Thing",)))
    with pytest.raises(Poison):
        installed_contract(read, MINE).class_of("com.example.Thing")
    assert read.reads == 0


def test_a_register_that_cannot_be_read_is_asked_again() -> None:
    """Neither dead-lettered nor stopped: the batch is retried."""

    def silent() -> Installed | None:
        raise Retryable("Kafka did not give the contract")

    with pytest.raises(Retryable):
        installed_contract(silent, MINE).class_of(NEWER)


def test_a_known_event_costs_no_question() -> None:
    read = Register(None)
    assert installed_contract(read, MINE).class_of("pharmaloop.rnd.v1.InsightRecorded") is InsightRecorded
    assert read.reads == 0


def test_a_build_starts_where_its_contract_is_installed() -> None:
    assert check_contract(SAME, MINE) == ""
    assert "it will stop at the first of them" in check_contract(LATER, MINE)
    with pytest.raises(Retryable, match=r"services\.kit\.bus\.migrate"):
        check_contract(None, MINE)
    newer = replace(MINE, classes={**MINE.classes, NEWER: Struct})
    with pytest.raises(Retryable, match=NEWER):
        check_contract(SAME, newer)
    assert check_contract(LATER, newer) == ""


def test_the_digest_names_the_contract() -> None:
    assert digest_of(MINE) == digest_of(contract())
    fewer = replace(MINE, topics=MINE.topics[1:])
    assert digest_of(fewer) != digest_of(MINE)
