"""Laboratory results as evidence: the arithmetic against statsmodels, and what of a site's results counts."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.common.v1 import types_pb2 as common
from services.clinical.domain.evidence.labs import Compared, Read, compared
from services.clinical.views import PLANS
from services.kit.sealing import subject_key
from tests.unit.clinical.memory_site import SITE, moment
from tests.unit.clinical.study_site import SIBLING, Person, StudySite, exposed_run
from tests.unit.clinical.teller import LOT

ALT = "1742-6"


def reads(exposed: list[float], others: list[float], unit: str = "U/L") -> list[Read]:
    return [Read(ALT, unit, arm, value) for arm, some in ((True, exposed), (False, others)) for value in some]


def only(found: list[Compared]) -> Compared:
    (one,) = found
    return one


def test_the_ratio_and_its_interval_are_those_of_statsmodels() -> None:
    draw = random.Random(11)
    exposed = [35 * draw.lognormvariate(0, 0.4) for _ in range(23)]
    others = [22 * draw.lognormvariate(0, 0.3) for _ in range(41)]
    found = only(compared(reads(exposed, others)))
    logs = [DescrStatsW([math.log(value) for value in some]) for some in (exposed, others)]
    lower, upper = CompareMeans(*logs).zconfint_diff(usevar="unequal")
    ratio = found.ratio
    assert (found.exposed, found.comparators) == (23, 41)
    assert found.exposed_mean == pytest.approx(math.exp(logs[0].mean))
    assert ratio.value == pytest.approx(math.exp(logs[0].mean - logs[1].mean))
    assert ratio.lower == pytest.approx(math.exp(lower))
    assert ratio.upper == pytest.approx(math.exp(upper))


@pytest.mark.parametrize(
    ("exposed", "others", "value", "reason"),
    [
        ([20.0, 80.0], [20.0], 2.0, "FEW_RESULTS"),
        ([20.0], [], None, "NO_RESULTS"),
        ([], [20.0], None, "NO_RESULTS"),
        ([20.0, 0.0], [10.0], 2.0, "FEW_RESULTS"),
    ],
)
def test_what_the_data_do_not_give_is_left_out(
    exposed: list[float], others: list[float], value: float | None, reason: str
) -> None:
    ratio = only(compared(reads(exposed, others))).ratio
    assert ratio.value == (None if value is None else pytest.approx(value))
    assert (ratio.lower, ratio.upper, ratio.reason) == (None, None, reason)


def test_results_in_another_unit_are_a_row_of_their_own() -> None:
    found = compared([*reads([1.0], [2.0], "mg/L"), *reads([100.0], [200.0], "ug/dL")])
    assert [one.unit for one in found] == ["mg/L", "ug/dL"]
    assert [one.ratio.value for one in found] == pytest.approx([0.5, 0.5])


# -- at a site ---------------------------------------------------------------------------


@pytest.fixture
def site() -> StudySite:
    """Two exposed; two of a sibling lot, who become their comparators."""
    people = [Person(f"E-{n}", LOT) for n in (1, 2)] + [Person(f"C-{n}", SIBLING) for n in (1, 2)]
    return exposed_run(*people)


def result(site: StudySite, pseudonym: str, value: float, days: float = -1, number: str = "1") -> None:
    """A laboratory read the patient's blood so many days ago."""
    (plan,) = (p for p in site.site.states(PLANS).values() if p.pseudonym == pseudonym and p.stage == "open")
    sealed = site.sealer.seal(
        clinical.LabResult(value=common.Quantity(value=value, unit="U/L")), subject_key(SITE, pseudonym)
    )
    site.fact(
        clinical.LabRecorded(
            plan=plan.plan, site=SITE, pseudonym=pseudonym, code=ALT, result=sealed, at=moment(days)
        )
    )


def row(site: StudySite) -> Any:
    found: list[api.LabEvidence] = list(site.evidence().labs)
    (one,) = found
    return one


def test_a_site_sees_its_results_by_arm(site: StudySite) -> None:
    assert list(site.evidence().labs) == []
    for name, value in (("E-1", 40.0), ("E-2", 90.0), ("C-1", 20.0), ("C-2", 20.0)):
        result(site, name, value)
    found = row(site)
    assert (found.code, found.unit, found.exposed, found.comparators) == (ALT, "U/L", 2, 2)
    assert found.exposed_mean == pytest.approx(60.0)
    assert found.ratio.value == pytest.approx(3.0)
    assert found.ratio.reason == "FEW_RESULTS"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_latest_result_of_a_test_counts_whatever_came_last(
    site: StudySite, order: tuple[int, int]
) -> None:
    results = ((40.0, 3.0), (10.0, 2.0))
    for place in order:
        value, days = results[place]
        result(site, "E-1", value, days)
    assert row(site).exposed_mean == pytest.approx(10.0)


def test_a_result_of_somebody_erased_or_withdrawn_does_not_count(site: StudySite) -> None:
    result(site, "E-1", 40.0)
    result(site, "E-2", 20.0)
    assert row(site).exposed == 2
    site.keys.destroy(subject_key(SITE, "E-1"))
    assert row(site).exposed_mean == pytest.approx(20.0)
    site.subject("E-2", consent=False, days=-2)
    assert list(site.evidence().labs) == []
