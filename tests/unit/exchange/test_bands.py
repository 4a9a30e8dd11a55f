"""Of a process band with few lots, an answer says what was seen and claims nothing."""

from __future__ import annotations

from typing import Any

import pytest

from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.exchange.v1 import events_pb2 as events
from services.exchange.domain import bands, insights
from services.exchange.domain.stats.protocol import Estimate, Result


@pytest.mark.parametrize(
    ("exposed", "others", "flag"),
    [
        (10, 10, None),
        (9, 10, "LOTS_TOO_FEW"),
        (30, 9, "LOTS_TOO_FEW"),
        (0, 40, "LOTS_TOO_FEW"),
        (None, None, "LOTS_NOT_COUNTED"),
    ],
)
def test_ten_lots_inside_and_ten_outside_carry_an_interval(
    exposed: int | None, others: int | None, flag: str | None
) -> None:
    assert bands.described(exposed, others) == flag


def answer(kind: cohort.ExposureKind, **tables: Any) -> events.InsightPublished:
    exposure = cohort.CohortExposure(
        kind=kind, tag="Temperature", low=299, unit="K", genotype="VKORC1 -1639GA"
    )
    outcome = cohort.CohortOutcome(kind=cohort.OUTCOME_KIND_ADVERSE_EVENT, terms=["PL1003"], days=28)
    study = events.StudyRequested(
        study="s", model="logistic", definition=cohort.CohortDefinition(exposure=exposure, outcome=outcome)
    )
    estimates = (
        Estimate("intercept", -2.0, 0.1, -2.2, -1.8, -20.0, 1e-9),
        Estimate("exposed", 0.7, 0.2, 0.3, 1.1, 3.5, 0.0005),
    )
    result = Result("logistic", estimates, 600, 7, events=90, tables=tables)
    job = events.JobOpened(study="s", job="j", participants=["a", "b", "c"])
    return insights.insight("i", study, job, ["a", "b", "c"], result)


def claims(told: events.InsightPublished) -> list[str]:
    names = ("standard_error", "p_value")
    found = [name for effect in told.effects for name in names if effect.HasField(name)]
    return found + [
        name for effect in told.effects for name in ("lower", "upper") if effect.estimate.HasField(name)
    ]


@pytest.mark.parametrize(
    ("tables", "flag", "lots"),
    [
        ({"clusters": 30, "clusters_exposed": 9}, "LOTS_TOO_FEW", 9),
        ({"clusters": 24}, "LOTS_NOT_COUNTED", 0),
        ({}, "LOTS_NOT_COUNTED", 0),
    ],
)
def test_an_answer_that_is_only_described_has_its_estimate_alone(
    tables: dict[str, int], flag: str, lots: int
) -> None:
    told = answer(cohort.EXPOSURE_KIND_PARAMETER_BAND, **tables)
    assert list(told.flags) == [flag]
    assert told.lots == lots
    assert claims(told) == []
    assert told.effects[0].term == "exposed"
    assert told.effects[0].estimate.value == 0.7
    assert "only described" in told.statement
    assert "interval" not in told.statement
    assert "p =" not in told.statement


def test_enough_lots_carry_interval_and_p_value() -> None:
    told = answer(cohort.EXPOSURE_KIND_PARAMETER_BAND, clusters=24, clusters_exposed=12)
    assert (list(told.flags), told.lots) == ([], 12)
    assert len(claims(told)) == 8
    assert "95 % interval 0.300 to 1.100" in told.statement


def test_a_genotype_is_no_matter_of_lots() -> None:
    told = answer(cohort.EXPOSURE_KIND_GENOTYPE)
    assert list(told.flags) == []
    assert told.effects[0].p_value == 0.0005
