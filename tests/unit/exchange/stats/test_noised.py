"""Statistics with noise: what one patient changes, what noise is in the totals, and what is told of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.exchange.domain import models
from services.exchange.domain.disclosure import accounting, noise
from services.exchange.domain.stats.describe import Counts, Histogram, Moments
from services.exchange.domain.stats.protocol import Ask, Model, Result, Vector
from services.exchange.domain.stats.survival import KaplanMeier
from services.refusals import Malformed

EPSILON, DELTA = 1.0, 1e-6
NOISE = {"epsilon": EPSILON, "delta": DELTA}
#: Of one Gaussian sum at these: Balle and Wang, ICML 2018, algorithm 1.
SIGMA = 4.2247

SPECS: dict[str, tuple[Model, dict[str, Any], float]] = {
    "counts": (
        Counts(),
        {"by": [{"column": "group", "levels": ["0", "1", "2"]}, {"column": "event", "levels": ["0", "1"]}]},
        1.0,
    ),
    "histogram": (Histogram(), {"column": "age", "low": 20, "high": 80, "width": 10}, 1.0),
    "kaplan_meier": (
        KaplanMeier(),
        {"time": "time", "event": "event", "grid": [10, 20, 30, 40, 50, 60]},
        1.0,
    ),
    "moments": (
        Moments(),
        {"columns": [{"column": "age", "low": 20, "high": 80}, {"column": "event", "low": 0, "high": 1}]},
        5**0.5,
    ),
}


def table(rows: int, seed: int) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    return {
        "group": draw.integers(0, 3, rows).astype(float),
        "event": (draw.random(rows) < 0.3).astype(float),
        "age": draw.normal(50, 12, rows),
        "time": draw.uniform(0, 60, rows),
    }


def spec(name: str) -> dict[str, Any]:
    return {"model": name, **SPECS[name][1], "noise": NOISE}


def the_ask(name: str) -> Ask:
    model = SPECS[name][0]
    found = model.ask(model.start(spec(name)))
    assert found is not None
    return found


def play(name: str, tables: list[dict[str, Any]], seed: int, **changes: Any) -> tuple[Result, Vector]:
    """A job in which every site adds its share, and the total without any."""
    model = SPECS[name][0]
    state = model.start({**spec(name), **changes})
    ask = model.ask(state)
    assert ask is not None
    scale, exact = model.noise(ask), [model.contribute(ask, one) for one in tables]
    assert scale is not None
    each = noise.share(scale, len(tables))
    sent = [
        noise.gaussian(one, each, seed.to_bytes(16, "big") + site.to_bytes(16, "big"))
        for site, one in enumerate(exact)
    ]
    for one in sent:
        model.layout(ask).check(one)
    state = model.take(state, np.sum(sent, axis=0))
    assert model.ask(state) is None, "a second round over the same patients would average the noise away"
    return model.result(state), np.sum(exact, axis=0)


@pytest.mark.parametrize("name", SPECS)
def test_the_noise_in_the_sum_of_all_sites_but_one_is_what_the_accountant_asks_for(name: str) -> None:
    model, _, sensitivity = SPECS[name]
    scale = model.noise(the_ask(name))
    assert scale is not None
    assert scale[0] == 0, "the sites are counted exactly"
    assert scale[1:] == pytest.approx(SIGMA * sensitivity, rel=1e-3)
    cost = accounting.pld_epsilon(1.0, float(scale[1]) / sensitivity, 1, DELTA)
    assert 0.999 * EPSILON <= cost.epsilon <= EPSILON


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(
    "patient",
    [
        {"group": 2.0, "event": 1.0, "age": 1e9, "time": 5.0},
        {"group": 0.0, "event": 0.0, "age": -1e9, "time": 1e9},
        {"group": 1.0, "event": 1.0, "age": 80.0, "time": 60.0},
    ],
    ids=["far above", "far below", "on the edge"],
)
def test_one_patient_more_changes_no_more_than_the_noise_is_made_for(
    name: str, patient: dict[str, float]
) -> None:
    model, _, sensitivity = SPECS[name]
    before = table(50, 1)
    after = {column: np.append(values, patient[column]) for column, values in before.items()}
    ask = the_ask(name)
    change = model.contribute(ask, after) - model.contribute(ask, before)
    assert 0.99 < np.linalg.norm(change) <= sensitivity * (1 + 1e-12)


def test_counts_come_with_the_noise_that_is_in_them() -> None:
    tables = [table(200, seed) for seed in range(4)]
    errors, inside = [], []
    for seed in range(150):
        result, exact = play("counts", tables, seed)
        cells = result.tables["cells"]
        found = np.array([cell["count"] for cell in cells])
        errors.append(found - exact[1:])
        inside += [
            cell["count_lower"] <= true <= cell["count_upper"]
            for cell, true in zip(cells, exact[1:], strict=True)
        ]
    told = result.tables["noise"]
    assert told["standard_deviation"] == pytest.approx(SIGMA * (4 / 3) ** 0.5, rel=1e-3)
    assert np.std(errors) == pytest.approx(told["standard_deviation"], rel=0.08)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)
    assert (told["epsilon"], told["delta"], told["accountant"], told["sites"]) == (EPSILON, DELTA, "PLD", 4)
    assert result.flags == ("NOISED",)
    assert result.rounds == 1


def test_the_interval_of_a_mean_has_the_noise_in_it() -> None:
    tables = [table(150, seed) for seed in range(3)]
    true = np.concatenate([one["event"] for one in tables]).mean()
    found = [play("moments", tables, seed)[0].estimate("event") for seed in range(200)]
    off = np.array([(one.value or 0.0) - true for one in found])
    rows, noise_ = sum(len(one["event"]) for one in tables), SIGMA * 5**0.5 * 1.5**0.5
    of_noise = 0.5 * noise_ * (1 + (2 * true - 1) ** 2) ** 0.5 / rows
    assert np.std(off) == pytest.approx(of_noise, rel=0.15)
    of_sample = (true * (1 - true) / rows) ** 0.5
    error = np.median([one.standard_error for one in found])
    assert error == pytest.approx((of_noise**2 + of_sample**2) ** 0.5, rel=0.05)


def test_a_mean_under_too_much_noise_is_not_told() -> None:
    result, _ = play("moments", [table(3, seed) for seed in range(3)], 1)
    assert [one.value for one in result.estimates] == [None, None]
    assert "NOISE_TOO_LARGE:age" in result.flags


def test_bins_are_told_with_their_noise_and_none_is_joined() -> None:
    result, exact = play("histogram", [table(100, seed) for seed in range(3)], 7)
    bins = result.tables["bins"]
    assert [one["lower"] for one in bins] == [None, 20, 30, 40, 50, 60, 70, 80]
    assert (
        np.abs([one["count"] for one in bins] - exact[1:]).max()
        < 6 * result.tables["noise"]["standard_deviation"]
    )
    assert result.n == pytest.approx(300, abs=80)


def test_the_interval_of_a_curve_has_the_noise_in_it() -> None:
    tables = [table(400, seed) for seed in range(3)]
    asked = {name: value for name, value in spec("kaplan_meier").items() if name != "noise"}
    model, state = KaplanMeier(), KaplanMeier().start(asked)
    while (ask := model.ask(state)) is not None:
        state = model.take(state, np.sum([model.contribute(ask, one) for one in tables], axis=0))
    exact = model.result(state).tables["curves"][0]["points"][:4]
    found = [play("kaplan_meier", tables, seed)[0].tables["curves"][0]["points"][:4] for seed in range(200)]
    off = np.array(
        [
            [one["survival"] - true["survival"] for one, true in zip(points, exact, strict=True)]
            for points in found
        ]
    )
    told = np.median([[one["standard_error"] for one in points] for points in found], axis=0)
    of_sample = np.array([one["standard_error"] for one in exact])
    assert np.std(off, axis=0) == pytest.approx(np.sqrt(told**2 - of_sample**2), rel=0.2)
    assert np.abs(off.mean(axis=0)).max() < 0.003
    inside = [
        one["lower"] <= true["survival"] <= one["upper"]
        for points in found
        for one, true in zip(points, exact, strict=True)
    ]
    assert np.mean(inside) > 0.95


def test_a_curve_ends_where_few_are_left_under_the_noise() -> None:
    result, _ = play("kaplan_meier", [table(60, seed) for seed in range(3)], 1)
    (curve,) = result.tables["curves"]
    assert 0 < len(curve["points"]) < 6
    assert "NOISE_TOO_LARGE:all" in result.flags
    nothing, _ = play("kaplan_meier", [table(2, seed) for seed in range(3)], 1)
    assert nothing.tables["curves"] == [{"group": "all", "points": []}]
    assert nothing.estimate("median:all").value is None


@pytest.mark.parametrize("model", ["cox", "logistic", "quantiles", "log_rank", "mantel_haenszel"])
def test_a_model_that_takes_no_noise_says_which_do(model: str) -> None:
    with pytest.raises(Malformed, match="counts, moments, histogram, kaplan_meier") as refusal:
        models.specification(model, "{}", public=False, epsilon=1.0, delta=1e-6)
    assert (refusal.value.reason, refusal.value.field) == ("NOT_OFFERED", "epsilon")
    assert model in refusal.value.description


@pytest.mark.parametrize(
    ("epsilon", "delta", "field"),
    [
        (0.001, 1e-6, "epsilon"),
        (11.0, 1e-6, "epsilon"),
        (0.0, 1e-6, "epsilon"),
        (1.0, 0.0, "delta"),
        (1.0, 1e-3, "delta"),
    ],
)
def test_epsilon_and_delta_beyond_what_is_offered_are_refused_by_name(
    epsilon: float, delta: float, field: str
) -> None:
    text = '{"column": "age", "low": 20, "high": 80, "width": 10}'
    with pytest.raises(Malformed) as refusal:
        models.specification("histogram", text, public=False, epsilon=epsilon, delta=delta)
    assert refusal.value.field == f"spec.noise.{field}"


def test_the_noise_of_a_specification_is_that_of_its_study() -> None:
    text = '{"column": "age", "low": 20, "high": 80, "width": 10}'
    _, canonical = models.specification("histogram", text, public=False, epsilon=1.0, delta=1e-6)
    assert '"noise":{"delta":1e-06,"epsilon":1.0}' in canonical
    read = models.specification("histogram", canonical, public=False, epsilon=1.0, delta=1e-6)
    assert read[1] == canonical
    for epsilon in (0.0, 2.0):
        with pytest.raises(Malformed, match="NOISE_DIFFERS"):
            models.specification("histogram", canonical, public=False, epsilon=epsilon, delta=epsilon * 1e-6)
