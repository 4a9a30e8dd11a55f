"""Which sites a run waits for and why, and when it may be told how many people wait there."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.kit import lacking, small_groups
from services.kit.lacking import Lack


def board(**counts: Any) -> clinical.RunBoard:
    made: dict[str, Any] = {"run": "r-1", "acknowledged": True}
    return clinical.RunBoard(**made | counts)


def lacks(
    stage: str, boards: dict[str, Any], *away: str, told: bool = True, follows: bool = False
) -> list[Lack]:
    return lacking.of_run(stage, boards, away, told=told, follows=follows)


@pytest.mark.parametrize(
    ("stage", "counts", "why"),
    [
        ("receive", {"acknowledged": False}, "digest"),
        ("receive", {"patients": {"pending": 20}}, ""),
        ("plan", {"acknowledged": False, "patients": {"pending": 20}}, "digest"),
        ("plan", {"patients": {"pending": 20}}, "plans"),
        ("plan", {"patients": {"waiting": 20}}, "plans"),
        ("plan", {"patients": {"open": 20, "declined": 10}}, ""),
        ("seal", {"only_at_site": 1}, "differences"),
        ("seal", {"only_in_trace": 1}, "differences"),
        ("seal", {"patients": {"pending": 20}}, "plans"),
        ("notify", {"notices_owed": 20}, "notices"),
        ("notify", {"notified": 20}, ""),
        ("respond", {"awaited": 20}, "answers"),
        ("respond", {"answered": 20}, ""),
        ("evaluate", {"acknowledged": False}, ""),
    ],
)
def test_a_site_is_named_for_what_its_stage_waits_for(stage: str, counts: dict[str, Any], why: str) -> None:
    found = lacks(stage, {"b": board(**counts), "a": board()})
    assert [(one.site, one.why) for one in found] == ([("b", why)] if why else [])


def test_a_site_that_is_away_or_holds_nothing_is_named() -> None:
    found = lacks("plan", {"a": board(), "b": None, "c": None}, "c")
    assert found == [Lack("b", lacking.NOTHING), Lack("c", lacking.AWAY)]


def test_a_run_that_follows_another_waits_for_no_difference() -> None:
    assert lacks("seal", {"a": board(only_at_site=3)}, follows=True) == []


def test_how_many_wait_is_told_where_no_small_group_follows() -> None:
    pending = board(patients={"pending": 12, "waiting": 3, "open": 40})
    assert lacks("plan", {"a": pending, "b": board()}) == [Lack("a", lacking.PLANS, 15)]


@pytest.mark.parametrize(
    ("boards", "how"),
    [
        ({"a": board(patients={"pending": 4})}, {}),
        ({"a": board(patients={"pending": 40}), "b": board(patients={"pending": 4})}, {}),
        ({"a": board(patients={"pending": 40, "declined": 2})}, {}),
        ({"a": board(patients={"pending": 40}), "b": board(patients={"open": 6})}, {}),
        ({"a": board(patients={"pending": 40})}, {"told": False}),
        ({"a": board(patients={"pending": 40}), "b": None}, {}),
    ],
)
def test_how_many_wait_is_withheld_where_one_follows(boards: dict[str, Any], how: dict[str, Any]) -> None:
    first = lacks("plan", boards, **how)[0]
    assert (first.why, first.people, first.withheld) == (lacking.PLANS, None, True)


def test_no_site_that_is_told_has_a_small_part() -> None:
    draw = random.Random(11)
    for _ in range(300):
        boards = {
            site: board(
                patients={name: draw.choice([0, 0, 3, 12, 40]) for name in ("pending", "open", "declined")}
            )
            for site in "abc"[: draw.randint(1, 3)]
        }
        if any(one.people is not None for one in lacks("plan", boards)):
            parts = [count for one in boards.values() for count in one.patients.values()]
            assert not any(small_groups.small(count) for count in parts)


def test_a_study_names_the_sites_whose_owner_has_not_said_yes() -> None:
    assert lacking.of_study(["b", "a", "c"], ["a"]) == [
        Lack("b", lacking.APPROVAL),
        Lack("c", lacking.APPROVAL),
    ]


def test_the_trace_tells_of_every_site_or_of_none() -> None:
    exposure = trace.GetExposureResponse()
    exposure.announced.sites["a"].n = 3
    assert not lacking.published(exposure)
    exposure.sites.add(site="a", told=True).people.patients.value = 30
    assert lacking.published(exposure)
    exposure.sites[0].people.patients.withheld = True
    assert not lacking.published(exposure)
    assert not lacking.published(None)
