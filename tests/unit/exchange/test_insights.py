"""What is told of an answer: the effect of the exposure first, small counts withheld, lots counted."""

from __future__ import annotations

import json

import pytest

from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.exchange.v1 import events_pb2 as events
from services.exchange.domain.insights import insight
from services.exchange.domain.stats.protocol import Estimate, Result
from tests.unit.exchange.hospitals import SITES, definition

ESTIMATES = (Estimate("intercept", -1.0), Estimate("exposed", 0.8, 0.2, 0.4, 1.2, 4.0, 6e-5))
JOB = events.JobOpened(study="s", job="j", participants=SITES)


def told(result: Result, **changes: int) -> events.InsightPublished:
    study = events.StudyRequested(study="s", question="?", model="logistic", definition=definition())
    if changes.get("public"):
        study.profile = events.DISCLOSURE_PROFILE_PUBLIC_DATA
    if "band" in changes:
        study.definition.exposure.Clear()
        study.definition.exposure.kind = cohort.EXPOSURE_KIND_PARAMETER_BAND
        study.definition.exposure.tag, study.definition.exposure.unit = "InletAirTemp", "Cel"
        study.definition.exposure.low = 75.0
    return insight("i", study, JOB, SITES, result)


def test_the_effect_of_the_exposure_comes_first_and_the_sentence_has_its_numbers() -> None:
    found = told(Result("logistic", ESTIMATES, 900, 7, 327))
    assert [one.term for one in found.effects] == ["exposed", "intercept"]
    assert found.effects[0].scale == "log-odds"
    assert found.statement == (
        "In 900 patients of 3 sites, 10019211 within 28 days, by lot maker/gtin/06901234500547/L-01: "
        "log-odds 0.800 (95 % interval 0.400 to 1.200), p = 6e-05."
    )


@pytest.mark.parametrize(
    ("members", "found", "shown", "withheld"),
    [
        (900, 327, (900, 327), False),
        (900, 9, (900, 0), True),
        (900, 0, (900, 0), False),
        (900, 895, (900, 0), True),
        (9, 9, (0, 0), True),
        (900, None, (900, 0), False),
    ],
)
def test_counts_that_single_people_out_are_withheld(
    members: int, found: int | None, shown: tuple[int, int], withheld: bool
) -> None:
    result = Result("logistic", ESTIMATES, members, 7, found)
    answer, public = told(result), told(result, public=1)
    assert (answer.members, answer.events) == shown
    assert ("COUNTS_WITHHELD" in answer.flags) == withheld
    assert (public.members, public.events) == (members, found or 0)


@pytest.mark.parametrize(
    ("inside", "outside", "flag"),
    [(0, 0, "LOTS_NOT_COUNTED"), (4, 20, "LOTS_TOO_FEW"), (20, 4, "LOTS_TOO_FEW"), (12, 12, "")],
)
def test_a_process_band_says_of_how_many_lots_it_is(inside: int, outside: int, flag: str) -> None:
    tables = {"clusters": inside + outside, "clusters_exposed": inside} if inside else {}
    found = told(Result("logistic", ESTIMATES, 900, 7, 327, tables=tables), band=1)
    assert found.lots == inside
    assert list(found.flags) == ([flag] if flag else [])
    assert found.effects[0].HasField("p_value") == (not flag)
    assert "InletAirTemp from 75 Cel" in found.statement


def test_an_exposure_without_an_estimate_says_so() -> None:
    found = told(Result("logistic", (Estimate("exposed", None),), 900, 7, 327))
    assert found.effects[0].estimate.reason == "NOT_ESTIMABLE"
    assert "no estimate" in found.statement


def test_a_description_tells_its_tables_and_a_fit_keeps_its_own() -> None:
    cells = [{"levels": ["0"], "count": 40}, {"levels": ["1"], "count": None}]
    counted = told(Result("counts", (), 900, 3, tables={"by": ["exposed"], "cells": cells}))
    assert json.loads(counted.tables) == {"by": ["exposed"], "cells": cells}
    fitted = told(Result("logistic", ESTIMATES, 900, 7, 327, tables={"scaling": {"exposed": [0.4, 0.5]}}))
    assert not fitted.tables
