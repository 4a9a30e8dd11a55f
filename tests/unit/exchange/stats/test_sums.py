"""Counts, moments, bins, curves and tables over sites equal those of all rows in one place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.duration.survfunc import survdiff
from statsmodels.stats.contingency_tables import StratifiedTable

from services.exchange.domain.errors import Unfit
from services.exchange.domain.stats.models import MODELS
from services.exchange.domain.stats.reading import PUBLIC
from tests.unit.exchange.stats.federation import fixed_point, plain_sum, play, read, rows, split

GBSG2 = read("gbsg2.csv")
GBSG2["treated"] = (GBSG2["horTh"] == "yes").astype(float)
DAYS = list(range(10, 2801, 10))
THERAPY = {"column": "horTh", "levels": ["no", "yes"]}
GRADES = {"column": "tgrade", "levels": ["I", "II", "III"]}
MENOPAUSE = {"column": "menostat", "levels": ["Pre", "Post"]}

COUNTS = {"model": "counts", "by": [GRADES, MENOPAUSE]}
MOMENTS = {
    "model": "moments",
    "columns": [{"column": "age", "low": 0, "high": 120}, {"column": "tsize", "low": 0, "high": 200}],
}
HISTOGRAM = {"model": "histogram", "column": "age", "low": 30, "high": 75, "width": 5}
QUANTILES = {**HISTOGRAM, "model": "quantiles", "low": 20, "high": 90, "width": 1, "at": [0.25, 0.5, 0.9]}
CURVES = {"model": "kaplan_meier", "time": "time", "event": "cens", "grid": DAYS, "groups": THERAPY}
RANKS = {"model": "log_rank", "time": "time", "event": "cens", "groups": GRADES}
TABLES = {
    "model": "mantel_haenszel",
    "outcome": "cens",
    "exposure": "treated",
    "strata": [GRADES, MENOPAUSE],
    "by_site": False,
}
CASES = [COUNTS, MOMENTS, HISTOGRAM, QUANTILES, CURVES, {**RANKS, "grid": DAYS}, TABLES]


def public(spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**spec, **PUBLIC, "rows_at_most": 1000, **more}


def told(spec: dict[str, Any], tables: list[dict[str, Any]], add: Any = plain_sum) -> Any:
    return play(MODELS[spec["model"]], spec, tables, add)


def numbers(value: Any) -> list[float]:
    """All numbers in a result, in their order."""
    if isinstance(value, dict):
        return [found for name in sorted(value) for found in numbers(value[name])]
    if isinstance(value, (list, tuple)):
        return [found for one in value for found in numbers(one)]
    return [float(value)] if isinstance(value, (int, float)) else []


@pytest.mark.parametrize("add", [plain_sum, fixed_point])
@pytest.mark.parametrize("sites", [3, 5, 10])
@pytest.mark.parametrize("spec", CASES, ids=lambda spec: spec["model"])
def test_any_number_of_sites_gives_what_all_rows_give(spec: dict[str, Any], sites: int, add: Any) -> None:
    whole = told(public(spec), [GBSG2]).to_json()
    found = told(public(spec), split(GBSG2, sites), add).to_json()
    wanted, had = np.array(numbers(whole)), np.array(numbers(found))
    assert len(wanted) == len(had) > 3
    assert np.all(np.abs(wanted - had) <= 1e-10 * np.maximum(1, np.abs(wanted)))


def test_counts_are_those_of_the_rows() -> None:
    found = told(public(COUNTS), split(GBSG2, 3))
    for cell in found.tables["cells"]:
        grade, menopause = cell["levels"]
        here = (GBSG2["tgrade"] == grade) & (GBSG2["menostat"] == menopause)
        assert cell["count"] == here.sum()
    assert found.n == 686


def test_moments_are_those_of_the_rows() -> None:
    found = told(public(MOMENTS), split(GBSG2, 5), fixed_point)
    for row in found.tables["moments"]:
        values = GBSG2[row["column"]]
        assert row["mean"] == pytest.approx(values.mean(), rel=1e-11)
        assert row["standard_deviation"] == pytest.approx(values.std(ddof=1), rel=1e-11)
        assert row["skewness"] == pytest.approx(stats.skew(values), rel=1e-10)
        assert row["kurtosis"] == pytest.approx(stats.kurtosis(values), rel=1e-10)
        low, high = stats.t.interval(0.95, 685, values.mean(), stats.sem(values))
        assert found.estimate(row["column"]).lower == pytest.approx(low, rel=1e-11)
        assert found.estimate(row["column"]).upper == pytest.approx(high, rel=1e-11)
    wanted = np.cov(GBSG2["age"], GBSG2["tsize"])
    assert np.allclose(found.tables["covariance"], wanted, rtol=1e-10, atol=0)


def test_a_histogram_counts_what_is_beyond_its_range_and_tells_no_extreme() -> None:
    found = told(public(HISTOGRAM), split(GBSG2, 3))
    bins, age = found.tables["bins"], GBSG2["age"]
    assert [one["count"] for one in bins[1:-1]] == np.histogram(age, np.arange(30, 76, 5))[0].tolist()
    assert (bins[0]["lower"], bins[0]["count"]) == (None, (age < 30).sum())
    assert (bins[-1]["upper"], bins[-1]["count"]) == (None, (age > 75).sum())


def test_quantiles_are_right_to_the_width_of_a_bin() -> None:
    found = told(public(QUANTILES), split(GBSG2, 3))
    for share in (0.25, 0.5, 0.9):
        one = found.estimate(f"q{share:g}")
        wanted = float(np.quantile(GBSG2["age"], share, method="inverted_cdf"))
        assert one.lower is not None
        assert one.upper is not None
        assert one.value is not None
        assert one.lower <= wanted <= one.upper
        assert abs(one.value - wanted) <= 1


def test_a_quantile_with_few_people_on_one_side_is_not_told() -> None:
    spec = {**QUANTILES, "at": [0.003, 0.5], "low": 45, "high": 90, "width": 15, "sites_at_least": 1}
    found = told(spec, split(GBSG2, 3))
    assert found.estimate("q0.003").value is None
    assert "EXTREME:q0.003" in found.flags
    assert found.estimate("q0.5").value is not None
    beyond = told(public({**QUANTILES, "low": 60}, width=1), split(GBSG2, 3))
    assert beyond.estimate("q0.25").value is None
    assert "BEYOND_RANGE:q0.25" in beyond.flags


def test_curves_on_every_time_are_those_of_kaplan_and_meier() -> None:
    days = sorted(set(GBSG2["time"].tolist()))
    found = told(public(CURVES, grid=days), split(GBSG2, 5))
    for line in found.tables["curves"]:
        here = GBSG2["horTh"] == line["group"]
        wanted = sm.SurvfuncRight(GBSG2["time"][here], GBSG2["cens"][here])
        points = {point["time"]: point for point in line["points"]}
        for time, survival, error in zip(
            wanted.surv_times, wanted.surv_prob, wanted.surv_prob_se, strict=True
        ):
            assert points[time]["survival"] == pytest.approx(survival, abs=1e-12)
            assert points[time]["standard_error"] == pytest.approx(error, abs=1e-12)
        assert found.estimate(f"median:{line['group']}").value == wanted.quantile(0.5)
        low, high = wanted.quantile_ci(0.5, method="cloglog")
        assert found.estimate(f"median:{line['group']}").lower == low
        assert found.estimate(f"median:{line['group']}").upper == (None if np.isinf(high) else high)


def test_log_rank_on_every_time_and_stratified_by_site() -> None:
    days = sorted(set(GBSG2["time"].tolist()))
    tables = split(GBSG2, 5)
    pooled = told(public(RANKS, grid=days), tables).estimate("chi_square")
    statistic, p_value = survdiff(GBSG2["time"], GBSG2["cens"], GBSG2["tgrade"])
    assert pooled.value == pytest.approx(statistic, rel=1e-10)
    assert pooled.p_value == pytest.approx(p_value, rel=1e-9)
    time, event, group = (
        np.concatenate([one[name] for one in tables]) for name in ("time", "cens", "tgrade")
    )
    site = np.repeat(np.arange(5), [len(one["time"]) for one in tables])
    statistic, p_value = survdiff(time, event, group, strata=site)
    by_site = told(public(RANKS), tables, fixed_point).estimate("chi_square")
    assert by_site.value == pytest.approx(statistic, rel=1e-10)
    assert by_site.p_value == pytest.approx(p_value, rel=1e-9)


def _stacked(tables: list[dict[str, Any]], by_site: bool) -> StratifiedTable:
    """The 2 x 2 tables of all strata; of the rows together, or of each site."""
    if not by_site:
        tables = [{name: np.concatenate([one[name] for one in tables]) for name in tables[0]}]
    held = []
    for table in tables:
        for grade in GRADES["levels"]:
            for menopause in MENOPAUSE["levels"]:
                part = rows(table, (table["tgrade"] == grade) & (table["menostat"] == menopause))
                cells = [
                    [((part["treated"] == x) & (part["cens"] == y)).sum() for y in (1, 0)] for x in (1, 0)
                ]
                if np.min(np.sum(cells, axis=1)) > 0:
                    held.append(np.array(cells, dtype=float))
    return StratifiedTable(held)


@pytest.mark.parametrize("by_site", [False, True])
def test_mantel_haenszel_is_that_of_all_strata(by_site: bool) -> None:
    tables = split(GBSG2, 5, seed=1)
    found = told(public(TABLES, by_site=by_site), tables, fixed_point)
    wanted = _stacked(tables, by_site)
    odds = found.estimate("odds_ratio")
    assert odds.value == pytest.approx(wanted.oddsratio_pooled, rel=1e-10)
    assert odds.standard_error == pytest.approx(wanted.logodds_pooled_se, rel=1e-10)
    low, high = wanted.oddsratio_pooled_confint()
    assert (odds.lower, odds.upper) == (pytest.approx(low, rel=1e-10), pytest.approx(high, rel=1e-10))
    assert found.estimate("risk_ratio").value == pytest.approx(wanted.riskratio_pooled, rel=1e-10)
    test = wanted.test_null_odds(correction=False)
    assert found.estimate("chi_square").value == pytest.approx(test.statistic, rel=1e-10)
    assert found.estimate("chi_square").p_value == pytest.approx(test.pvalue, rel=1e-9)


def test_small_cells_are_joined_withheld_or_refused() -> None:
    tables = split(GBSG2, 3)
    for spec in (COUNTS | {"by": [GRADES, MENOPAUSE, THERAPY]}, {**HISTOGRAM, "low": 20, "width": 1}, CURVES):
        with pytest.raises(Unfit, match="SMALL_CELL"):
            told({**spec, "cells_at_least": 20}, tables)
        found = told({**spec, "cells_at_least": 20, "small_cells": "coarsen"}, tables)
        assert found.flags
        held = found.to_json()["tables"]
        counts = [one["count"] for one in held.get("cells", held.get("bins", []))]
        counts += [point["deaths"] for line in held.get("curves", []) for point in line["points"]]
        assert counts
        assert all(count is None or count == 0 or count >= 20 for count in counts)


def test_one_withheld_cell_cannot_be_had_from_the_others() -> None:
    table = {"grade": np.array(["a"] * 2 + ["b"] * 9 + ["c"] * 7)}
    tables = [table, table, {"grade": np.array(["b"] * 4 + ["c"] * 4)}]
    by = [{"column": "grade", "levels": ["a", "b", "c"]}]
    spec = {"model": "counts", "by": by, "cells_at_least": 5, "small_cells": "coarsen"}
    found = told(spec, tables)
    assert [cell["count"] for cell in found.tables["cells"]] == [None, 22, None]


def test_a_joined_grid_gives_the_curve_of_that_grid() -> None:
    tables = split(GBSG2, 3)
    spec = {**CURVES, "cells_at_least": 5, "small_cells": "coarsen"}
    found = told(spec, tables)
    times = [point["time"] for point in found.tables["curves"][0]["points"]]
    assert len(times) < len(DAYS)
    again = told(public(CURVES, grid=times), tables)
    assert again.tables["curves"] == found.tables["curves"]
