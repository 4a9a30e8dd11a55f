"""Lots inside and outside a band are two samples: they are counted, and few of them widen the interval."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from services.exchange.domain.errors import Unfit
from services.exchange.domain.stats.clusters import Count
from services.exchange.domain.stats.models import MODELS
from services.refusals import Malformed
from tests.unit.exchange.stats.federation import fixed_point, play, rows

PER_LOT = 9


def lots(inside: int, outside: int, seed: int = 4) -> dict[str, Any]:
    """Lots of nine rows each; y differs by lot and by row, x within lots."""
    random = np.random.default_rng(seed)
    lot = np.repeat(np.arange(inside + outside), PER_LOT)
    y = random.normal(0, 1, inside + outside)[lot] + random.normal(0, 2, len(lot))
    return {
        "exposed": (lot < inside).astype(float),
        "y": np.clip(y, -20, 20),
        "x": random.normal(0, 1, len(lot)).clip(-5, 5),
        "event": (y > 0.5).astype(float),
        "lot": np.array([f"L{number:02d}" for number in lot]),
    }


def over_three(table: dict[str, Any], own: int = 0) -> list[dict[str, Any]]:
    """Three rows of each lot at each of three sites; the first `own` lots of either kind at one alone."""
    site = np.arange(len(table["lot"])) % 3
    names = np.unique(table["lot"])
    for at, name in enumerate([*names[:own], *names[len(names) - own :]]):
        site = np.where(table["lot"] == name, at % 3, site)
    return [rows(table, site == one) for one in range(3)]


def spec(table: dict[str, Any], own: int = 0, **more: Any) -> dict[str, Any]:
    names = np.unique(table["lot"]).tolist()
    return {
        "model": "linear",
        "terms": [{"column": "exposed", "low": 0, "high": 1}],
        "outcome": {"column": "y", "low": -20, "high": 20},
        "errors": "cluster",
        "clusters": {"column": "lot", "shared": names[own : len(names) - own], "exposure": "exposed"},
        **more,
    }


def fit(said: dict[str, Any], tables: list[dict[str, Any]]) -> Any:
    return play(MODELS[said["model"]], said, tables, fixed_point)


@pytest.mark.parametrize("own", [0, 3])
def test_as_many_lots_inside_as_outside_give_the_t_test_of_their_means(own: int) -> None:
    table = lots(12, 12)
    means = table["y"].reshape(24, PER_LOT).mean(axis=1)
    wanted = stats.ttest_ind(means[:12], means[12:])
    found = fit(spec(table, own), over_three(table, own)).estimate("exposed")
    n = 24 * PER_LOT
    # The sandwich keeps (n - 1) / (n - p) for the rows, which the means have no part in.
    error = found.standard_error * np.sqrt((n - 2) / (n - 1))
    assert found.value / error == pytest.approx(wanted.statistic, rel=1e-9)
    assert 2 * stats.t.sf(abs(found.value / error), 22) == pytest.approx(wanted.pvalue, rel=1e-9)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(found.statistic), 22), rel=1e-9)
    assert found.upper == pytest.approx(found.value + stats.t.ppf(0.975, 22) * found.standard_error)


def test_unequal_numbers_of_lots_have_the_variance_and_degrees_of_cr2_and_bell_and_mccaffrey() -> None:
    inside, outside = 5, 20
    table = lots(inside, outside)
    exposed = table["exposed"]
    design = np.column_stack([np.ones(len(exposed)), exposed])
    bread = np.linalg.inv(design.T @ design)
    hat = design @ bread @ design.T
    residual = table["y"] - hat @ table["y"]
    scores, left = [], []
    for name in np.unique(table["lot"]):
        at = table["lot"] == name
        values, vectors = np.linalg.eigh(np.eye(at.sum()) - hat[np.ix_(at, at)])
        adjusted = vectors / np.sqrt(values) @ vectors.T @ design[at] @ bread[:, 1]
        scores.append(adjusted @ residual[at])
        left.append((np.eye(len(exposed)) - hat)[:, at] @ adjusted)
    roots = np.linalg.eigvalsh(np.array(left) @ np.array(left).T)
    found = fit(spec(table), over_three(table))
    error = found.estimate("exposed").standard_error
    a, b = inside, outside
    # CR2 scales each sample by its own lots; the counts alone, both by what is expected of each.
    expected = np.sum(np.square(scores)) / error**2
    assert found.tables["degrees_of_freedom_exposure"] == pytest.approx(roots.sum() ** 2 / (roots**2).sum())
    assert Count(a + b, a).widening() == pytest.approx((1 / 4 + 1 / 19) / (1 / 5 + 1 / 20) * 24 / 25)
    assert expected == pytest.approx(1, rel=0.15)


def test_lots_are_counted_wherever_they_are() -> None:
    table = lots(11, 14)
    for own in (0, 2):
        found = fit(spec(table, own), over_three(table, own))
        assert (found.tables["clusters"], found.tables["clusters_exposed"]) == (25, 11)


def test_odds_ratios_by_lot_are_judged_by_student_s_t_of_the_lots() -> None:
    table = lots(11, 14)
    found = fit(spec(table, model="logistic", outcome={"column": "event"}), over_three(table))
    degrees = {"intercept": 24, "exposed": found.tables["degrees_of_freedom_exposure"]}
    assert found.tables["clusters_exposed"] == 11
    assert 20 < degrees["exposed"] < 23
    for one in found.estimates:
        assert one.p_value == pytest.approx(2 * stats.t.sf(abs(one.statistic), degrees[one.name]))
        wide = stats.t.ppf(0.975, degrees[one.name]) * one.standard_error
        assert (one.lower, one.upper) == pytest.approx((one.value - wide, one.value + wide))


def test_other_columns_keep_the_errors_of_all_lots() -> None:
    table = lots(12, 12)
    terms = [{"column": "exposed", "low": 0, "high": 1}, {"column": "x", "low": -5, "high": 5}]
    said = spec(table, terms=terms)
    without = {**said, "clusters": {**said["clusters"]}}
    del without["clusters"]["exposure"]
    found, plain = fit(said, over_three(table)), fit(without, over_three(table))
    assert found.estimate("x") == plain.estimate("x")
    assert "clusters_exposed" not in plain.tables
    wider = found.estimate("exposed").standard_error / plain.estimate("exposed").standard_error
    assert wider == pytest.approx(np.sqrt(12 / 11 / (24 / 23)))
    # What is told of all estimates together is told alike.
    assert found.covariance[1][1] == pytest.approx(found.estimate("exposed").standard_error ** 2)


def test_what_differs_within_a_lot_is_no_exposure_of_lots() -> None:
    table = lots(12, 12)
    table["exposed"][3] = 0.0
    with pytest.raises(Unfit, match="EXPOSURE_WITHIN_CLUSTER"):
        fit(spec(table), over_three(table))
    # Each site is consistent by itself, and they contradict one another.
    table = lots(12, 12)
    tables = over_three(table)
    tables[1]["exposed"] = np.where(tables[1]["lot"] == "L00", 0.0, tables[1]["exposed"])
    with pytest.raises(Unfit, match="EXPOSURE_WITHIN_CLUSTER"):
        fit(spec(table), tables)


def test_the_exposure_is_a_term() -> None:
    table = lots(3, 3)
    said = spec(table)
    said["clusters"]["exposure"] = "batch"
    with pytest.raises(Malformed, match="NOT_A_TERM") as refused:
        MODELS["linear"].start(said)
    assert refused.value.field == "spec.clusters.exposure"


@pytest.mark.parametrize("model", ["linear", "logistic"])
def test_lots_that_are_all_listed_stay_with_their_site_where_they_are_alone(model: str) -> None:
    table = lots(12, 13)
    outcome = {"column": "y", "low": -20, "high": 20} if model == "linear" else {"column": "event"}
    known = spec(table, own=3, model=model, outcome=outcome)
    tables = over_three(table, own=3)
    every = sorted(set(table["lot"].tolist()))
    listed = {"column": "lot", "shared": every, "others": "refuse", "exposure": "exposed"}
    with pytest.raises(Unfit, match="TOO_FEW_SITES_FOR_CLUSTER: L00, L01, L02, L22, L23, L24"):
        fit({**known, "clusters": listed}, tables)
    found, wanted = fit({**known, "clusters": {**listed, "alone": "local"}}, tables), fit(known, tables)
    assert found.tables["clusters"] == wanted.tables["clusters"] == 25
    assert found.tables["clusters_exposed"] == 12
    for one, other in zip(found.estimates, wanted.estimates, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-9)
        assert one.standard_error == pytest.approx(other.standard_error, rel=1e-9)


def test_a_lot_at_two_sites_is_not_alone_where_three_are_asked_for() -> None:
    table = lots(12, 12)
    tables = over_three(table)
    tables[2] = rows(tables[2], tables[2]["lot"] != "L05")
    said = spec(table, sites_at_least=3)
    said["clusters"]["alone"] = "local"
    with pytest.raises(Unfit, match="TOO_FEW_SITES_FOR_CLUSTER: L05"):
        fit(said, tables)


def test_scores_are_asked_with_a_mark_for_each_listed_lot() -> None:
    table = lots(3, 3)
    model = MODELS["linear"]
    tables, state = over_three(table), model.start(spec(table))
    while (ask := model.ask(state)) is not None and ask.phase != "scores":
        layout = model.layout(ask)
        state = model.take(state, fixed_point([model.contribute(ask, one) for one in tables], layout))
    assert ask is not None
    with pytest.raises(Malformed, match="WRONG_PARAMETERS"):
        model.layout(replace(ask, parameters=ask.parameters[:-1]))
