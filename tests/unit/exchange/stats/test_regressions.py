"""Regressions over several sites equal the fit of all rows in one place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from services.exchange.domain.stats.cox import Cox, CoxGrid
from services.exchange.domain.stats.fitted import Fitted
from services.exchange.domain.stats.glm import Linear, Logistic, Poisson
from tests.unit.exchange.stats import rossi
from tests.unit.exchange.stats.federation import (
    errors,
    fixed_point,
    modulo,
    plain_sum,
    play,
    read,
    split,
    values,
)
from tests.unit.exchange.stats.rossi import RANGES, ROSSI

X = np.column_stack([ROSSI[name] for name in RANGES])
WITH_ONE = np.column_stack([np.ones(len(X)), X])

CASES: list[tuple[Fitted, dict[str, Any]]] = [
    (Linear(), rossi.linear()),
    (Logistic(), rossi.logistic()),
    (Poisson(), rossi.poisson()),
    (CoxGrid(), rossi.cox_grid()),
]


def close(found: Any, wanted: Any, tolerance: float = 1e-10) -> None:
    found, wanted = np.asarray(found, dtype=float), np.asarray(wanted, dtype=float)
    assert np.all(np.abs(found - wanted) <= tolerance * np.maximum(1, np.abs(wanted)))


def test_cox_over_three_sites_has_the_reference_values() -> None:
    found = play(CoxGrid(), rossi.cox_grid(), modulo(ROSSI, 3))
    beta = [-0.379422, -0.057438, 0.313900, -0.149796, -0.433704, -0.084871, 0.091497]
    standard = [0.191379, 0.021999, 0.307993, 0.212224, 0.381868, 0.195757, 0.028649]
    assert np.round(values(found), 6).tolist() == beta
    assert np.round(errors(found), 6).tolist() == standard
    assert found.log_likelihood == pytest.approx(-658.7476594460855, abs=1e-8)
    assert (found.n, found.events) == (432, 114)
    close(values(found), values(play(CoxGrid(), rossi.cox_grid(), [ROSSI])), 1e-12)


@pytest.mark.parametrize("add", [plain_sum, fixed_point])
@pytest.mark.parametrize("sites", [3, 5, 10])
@pytest.mark.parametrize(("model", "spec"), CASES, ids=lambda one: getattr(one, "name", ""))
def test_any_number_of_sites_gives_the_fit_of_all_rows(
    model: Fitted, spec: dict[str, Any], sites: int, add: Any
) -> None:
    whole, found = play(model, spec, [ROSSI]), play(model, spec, split(ROSSI, sites), add)
    for one, other in zip(found.estimates, whole.estimates, strict=True):
        assert one.name == other.name
        pairs = [(one.value, other.value), (one.standard_error, other.standard_error)]
        pairs += [(one.lower, other.lower), (one.upper, other.upper), (one.p_value, other.p_value)]
        for here, there in pairs:
            close(here, there)
    close(found.log_likelihood, whole.log_likelihood)
    close(np.array(found.covariance), np.array(whole.covariance))
    assert (found.n, found.events, found.rounds) == (whole.n, whole.events, whole.rounds)
    assert found.flags == ()


def test_of_one_site_they_are_what_statsmodels_finds() -> None:
    logit = sm.Logit(ROSSI["arrest"], WITH_ONE).fit(disp=0, tol=1e-14)
    found = play(Logistic(), rossi.logistic(), [ROSSI])
    close(values(found), logit.params)
    close(errors(found), logit.bse)
    close(found.log_likelihood, logit.llf)
    close([one.p_value for one in found.estimates], logit.pvalues)
    without = WITH_ONE[:, :-1]
    family = sm.families.Poisson()
    counted = sm.GLM(ROSSI["prio"], without, family=family, exposure=ROSSI["week"]).fit(tol=1e-14)
    found = play(Poisson(), rossi.poisson(), [ROSSI])
    close(values(found), counted.params)
    close(errors(found), counted.bse)
    close(found.log_likelihood, counted.llf)
    squares = sm.OLS(ROSSI["prio"], without).fit()
    found = play(Linear(), rossi.linear(), [ROSSI])
    close(values(found), squares.params)
    close(errors(found), squares.bse)
    close(found.log_likelihood, squares.llf)
    close([[one.lower, one.upper] for one in found.estimates], squares.conf_int())
    close([one.p_value for one in found.estimates], squares.pvalues)
    hazards = sm.PHReg(ROSSI["week"], X, ROSSI["arrest"], ties="efron").fit(disp=0)
    for model, spec in ((Cox(), rossi.cox()), (CoxGrid(), rossi.cox_grid())):
        found = play(model, spec, [ROSSI])
        close(values(found), hazards.params, 1e-8)
        close(errors(found), hazards.bse, 1e-8)
        close(found.log_likelihood, hazards.llf)


@pytest.mark.parametrize("sites", [3, 5, 10])
def test_stratified_cox_is_that_of_pooled_rows_with_the_site_as_stratum(sites: int) -> None:
    tables = split(ROSSI, sites)
    x, week, arrest = (
        np.concatenate([np.column_stack([table[name] for name in RANGES]) for table in tables]),
        np.concatenate([table["week"] for table in tables]),
        np.concatenate([table["arrest"] for table in tables]),
    )
    site = np.repeat(np.arange(sites), [len(table["week"]) for table in tables])
    pooled = sm.PHReg(week, x, arrest, strata=site, ties="efron").fit(disp=0)
    found = play(Cox(), rossi.cox(), tables, fixed_point)
    close(values(found), pooled.params, 1e-8)
    close(errors(found), pooled.bse, 1e-8)
    close(found.log_likelihood, pooled.llf)


@pytest.mark.parametrize("sites", [3, 5, 10])
def test_levels_are_columns_against_their_reference(sites: int) -> None:
    gbsg2 = read("gbsg2.csv")
    terms = [
        {"column": "age", "low": 20, "high": 90},
        {"column": "pnodes", "low": 0, "high": 100},
        {"column": "tgrade", "levels": ["I", "II", "III"], "reference": "II"},
        {"column": "horTh", "levels": ["no", "yes"], "reference": "no"},
    ]
    strata = {"column": "menostat", "levels": ["Pre", "Post"]}
    spec = {"model": "cox", "terms": terms, "time": "time", "event": "cens", "strata": strata, **rossi.PUBLIC}
    tables = split(gbsg2, sites)
    found = play(Cox(), spec, tables, fixed_point)
    assert [one.name for one in found.estimates] == ["age", "pnodes", "tgrade=I", "tgrade=III", "horTh=yes"]
    rows = {name: np.concatenate([table[name] for table in tables]) for name in gbsg2}
    site = np.repeat(np.arange(sites), [len(table["time"]) for table in tables])
    x = np.column_stack(
        [
            rows["age"],
            rows["pnodes"],
            rows["tgrade"] == "I",
            rows["tgrade"] == "III",
            rows["horTh"] == "yes",
        ]
    ).astype(float)
    stratum = site * 2 + (rows["menostat"] == "Post")
    pooled = sm.PHReg(rows["time"], x, rows["cens"], strata=stratum, ties="efron").fit(disp=0)
    close(values(found), pooled.params, 1e-8)
    close(errors(found), pooled.bse, 1e-8)
    close(found.log_likelihood, pooled.llf)


@pytest.mark.parametrize("add", [plain_sum, fixed_point])
def test_a_fit_without_an_intercept_has_none(add: Any) -> None:
    tables = split(ROSSI, 3)
    found = play(Logistic(), rossi.logistic(intercept=False), tables, add)
    wanted = sm.Logit(ROSSI["arrest"], X).fit(disp=0, tol=1e-14)
    close(values(found), wanted.params)
    close(errors(found), wanted.bse)
    found = play(Linear(), rossi.linear(intercept=False), tables, add)
    squares = sm.OLS(ROSSI["prio"], X[:, :-1]).fit()
    close(values(found), squares.params)
    close(errors(found), squares.bse)


def test_a_ridge_is_that_of_the_scaled_columns() -> None:
    found = play(Linear(), rossi.linear(ridge=5.0), split(ROSSI, 3))
    x, y = X[:, :-1], ROSSI["prio"]
    z, scaled = (x - x.mean(axis=0)) / x.std(axis=0), (y - y.mean()) / y.std()
    slopes = np.linalg.solve(z.T @ z + 5.0 * np.eye(6), z.T @ scaled) * y.std() / x.std(axis=0)
    close(values(found)[1:], slopes)
    close(values(found)[0], y.mean() - x.mean(axis=0) @ slopes)
    assert found.flags == ("RIDGE",)
