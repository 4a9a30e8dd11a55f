"""Separable, dependent and clustered data, and what a result says about them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from services.exchange.domain.errors import Unfit
from services.exchange.domain.stats.models import MODELS
from tests.unit.exchange.stats import rossi
from tests.unit.exchange.stats.federation import errors, fixed_point, plain_sum, play, rows, split, values
from tests.unit.exchange.stats.rossi import ROSSI

ADDS = pytest.mark.parametrize("add", [plain_sum, fixed_point])


def fit(spec: dict[str, Any], tables: list[dict[str, Any]], add: Any = plain_sum) -> Any:
    return play(MODELS[spec["model"]], spec, tables, add)


def crossed(a: int, b: int, c: int, d: int) -> dict[str, Any]:
    """a and b exposed with and without the outcome, c and d others; shuffled."""
    x = np.repeat([1.0, 1.0, 0.0, 0.0], [a, b, c, d])
    y = np.repeat([1.0, 0.0, 1.0, 0.0], [a, b, c, d])
    order = np.random.default_rng(3).permutation(len(x))
    return {"x": x[order], "y": y[order]}


def two_by_two(**more: Any) -> dict[str, Any]:
    terms = [{"column": "x", "low": 0, "high": 1}]
    return rossi.logistic(terms=terms, outcome={"column": "y"}, **more)


@ADDS
@pytest.mark.parametrize("cells", [(9, 0, 6, 15), (4, 6, 7, 3), (0, 12, 5, 20)])
def test_firth_of_a_two_by_two_table_adds_a_half_to_each_cell(cells: tuple[int, ...], add: Any) -> None:
    """Firth 1993, section 3.3: for a saturated logistic model the penalty is half a row in each cell."""
    found = fit(two_by_two(), split(crossed(*cells), 3), add)
    a, b, c, d = (cell + 0.5 for cell in cells)
    if 0 in cells:
        assert found.flags == ("SEPARABLE", "FIRTH")
        assert found.estimate("x").value == pytest.approx(math.log(a * d / (b * c)), abs=1e-8)
        assert found.estimate("intercept").value == pytest.approx(math.log(c / d), abs=1e-8)
        assert "penalised_log_likelihood" in found.tables
    else:
        a, b, c, d = cells
        assert found.flags == ()
        assert found.estimate("x").value == pytest.approx(math.log(a * d / (b * c)), abs=1e-10)


@ADDS
def test_separable_data_are_fitted_with_the_ridge_that_was_agreed(add: Any) -> None:
    table = crossed(9, 0, 6, 15)
    spec = two_by_two(fallback="ridge", fallback_ridge=2.0)
    found = fit(spec, split(table, 3), add)
    assert found.flags == ("SEPARABLE", "RIDGE")
    agreed = fit(two_by_two(ridge=2.0), [table])
    assert agreed.flags == ("RIDGE",)
    assert np.allclose(values(found), values(agreed), rtol=0, atol=1e-10)
    # At the top, the score of the scaled column equals lambda times its coefficient.
    intercept, slope = values(found)
    scale = found.tables["standardisation"]["scale"][0]
    centre = found.tables["standardisation"]["centre"][0]
    z, mean = (table["x"] - centre) / scale, 1 / (1 + np.exp(-intercept - slope * table["x"]))
    assert z @ (table["y"] - mean) == pytest.approx(2.0 * slope * scale, abs=1e-8)


def test_separable_data_are_refused_where_no_fallback_was_agreed() -> None:
    with pytest.raises(Unfit, match=r"SEPARABLE.*furthest: x"):
        fit(two_by_two(fallback="refuse"), split(crossed(9, 0, 6, 15), 3))


@pytest.mark.parametrize("name", ["cox", "cox_grid"])
def test_a_group_without_deaths_is_flagged_in_cox(name: str) -> None:
    table = {**ROSSI, "safe": ((np.arange(432) % 5 == 0) & (ROSSI["arrest"] == 0)).astype(float)}
    terms = [*rossi.TERMS[:2], {"column": "safe", "low": 0, "high": 1}]
    spec = {"cox": rossi.cox, "cox_grid": rossi.cox_grid}[name](terms=terms)
    found = fit(spec, split(table, 3))
    assert found.flags == ("SEPARABLE", "RIDGE")
    assert found.estimate("safe").value < -1
    with pytest.raises(Unfit, match="SEPARABLE"):
        fit({**spec, "fallback": "refuse"}, split(table, 3))


def test_a_level_without_counts_is_flagged_in_poisson() -> None:
    table = {**ROSSI, "none": (ROSSI["prio"] == 0).astype(float)}
    terms = [rossi.TERMS[1], {"column": "none", "low": 0, "high": 1}]
    found = fit(rossi.poisson(terms=terms), split(table, 3))
    assert found.flags == ("SEPARABLE", "RIDGE")


@pytest.mark.parametrize("make", [rossi.linear, rossi.logistic, rossi.poisson, rossi.cox, rossi.cox_grid])
def test_columns_that_depend_on_each_other_are_named(make: Any) -> None:
    table = {**ROSSI, "months": ROSSI["age"] * 12}
    terms = [*rossi.TERMS[:3], {"column": "months", "low": 180, "high": 720}]
    with pytest.raises(Unfit, match="SINGULAR_INFORMATION: age, months depend"):
        fit(make(terms=terms, fallback="refuse"), split(table, 3))
    found = fit(make(terms=terms, fallback="ridge"), split(table, 3))
    assert found.flags == ("SINGULAR_INFORMATION", "RIDGE")
    halves = found.estimate("age").value, found.estimate("months").value * 12
    assert halves[0] == pytest.approx(halves[1], rel=1e-6)


def test_a_job_that_runs_out_of_rounds_says_so() -> None:
    found = fit(rossi.logistic(max_rounds=4), split(ROSSI, 3))
    assert found.flags == ("NOT_CONVERGED",)
    assert found.rounds == 4


def test_a_step_too_long_is_halved() -> None:
    """A Poisson outcome with rare high counts: Newton's first step overshoots."""
    x = np.concatenate([np.zeros(400), [1.0] * 4])
    table = {"x": x, "y": np.where(x == 1, 900.0, (np.arange(404) % 40 == 0).astype(float))}
    spec = rossi.poisson(terms=[{"column": "x", "low": 0, "high": 1}], outcome={"column": "y", "high": 1000})
    spec["exposure"] = None
    found = fit(spec, split(table, 3), fixed_point)
    assert found.flags == ()
    assert found.estimate("x").value == pytest.approx(math.log(900 / (10 / 400)), rel=1e-10)


# Clusters ---------------------------------------------------------------------------------------

LOT = np.array([f"L{lot}" for lot in np.random.default_rng(5).integers(0, 150, 432)])
LOTTED = {**ROSSI, "lot": LOT}
MAKERS = {"linear": rossi.linear, "logistic": rossi.logistic, "poisson": rossi.poisson}


def pooled(name: str, **how: Any) -> Any:
    x = np.column_stack([np.ones(432), *(ROSSI[term["column"]] for term in MAKERS[name]()["terms"])])
    if name == "linear":
        return sm.OLS(ROSSI["prio"], x).fit(**how)
    if name == "logistic":
        return sm.Logit(ROSSI["arrest"], x).fit(disp=0, tol=1e-14, **how)
    family = sm.families.Poisson()
    return sm.GLM(ROSSI["prio"], x, family=family, exposure=ROSSI["week"]).fit(tol=1e-14, **how)


@ADDS
@pytest.mark.parametrize("sites", [3, 5])
@pytest.mark.parametrize("name", MAKERS)
def test_errors_by_lot_are_those_of_all_rows_where_lots_span_sites(name: str, sites: int, add: Any) -> None:
    tables = split(LOTTED, sites)
    at = {lot: sum(lot in table["lot"] for table in tables) for lot in sorted(set(LOT))}
    assert 1 in at.values()
    assert max(at.values()) > 1
    shared = [lot for lot, count in at.items() if count > 1]
    clusters = {"column": "lot", "shared": shared, "rows_at_most": 40}
    spec = MAKERS[name](errors="cluster", clusters=clusters, sites_at_least=2)
    found = fit(spec, tables, add)
    codes = np.unique(LOT, return_inverse=True)[1]
    wanted = pooled(name, cov_type="cluster", cov_kwds={"groups": codes, "use_correction": True})
    assert found.tables["clusters"] == len(at)
    assert np.allclose(values(found), wanted.params, rtol=0, atol=1e-10)
    assert np.allclose(errors(found), wanted.bse, rtol=1e-9, atol=0)


@ADDS
@pytest.mark.parametrize("name", MAKERS)
def test_robust_errors_are_those_of_all_rows(name: str, add: Any) -> None:
    found = fit(MAKERS[name](errors="robust"), split(ROSSI, 5), add)
    wanted = pooled(name, cov_type="HC0")
    assert np.allclose(errors(found), wanted.bse, rtol=1e-9, atol=0)


def test_a_lot_of_one_site_may_not_be_shared() -> None:
    tables = [rows(LOTTED, np.arange(432) % 3 == at) for at in range(3)]
    tables[0]["lot"] = np.where(np.arange(144) < 2, "alone", tables[0]["lot"])
    clusters = {"column": "lot", "shared": ["alone"]}
    with pytest.raises(Unfit, match="TOO_FEW_SITES_FOR_CLUSTER: alone"):
        fit(rossi.logistic(errors="cluster", clusters=clusters, sites_at_least=2), tables)
    clusters = {"column": "lot", "shared": sorted(set(LOT)), "others": "refuse"}
    with pytest.raises(Unfit, match="UNKNOWN_CLUSTER"):
        fit(rossi.logistic(errors="cluster", clusters=clusters), tables)


def test_rounds_that_end_at_separation_still_give_errors_by_lot() -> None:
    table = {**crossed(9, 0, 6, 15), "lot": np.array([f"L{row % 7}" for row in range(30)])}
    clusters = {"column": "lot", "shared": sorted(set(table["lot"]))}
    whole = fit(two_by_two(errors="cluster", clusters=clusters), split(table, 3))
    assert whole.flags == ("SEPARABLE", "FIRTH")
    assert whole.estimate("x").standard_error > 0
    plain = fit(two_by_two(fallback="ridge"), split(table, 3))
    for rounds in range(5, plain.rounds):
        found = fit(
            two_by_two(errors="cluster", clusters=clusters, fallback="ridge", max_rounds=rounds),
            split(table, 3),
        )
        assert "NOT_CONVERGED" in found.flags
        assert found.rounds == rounds + 1
