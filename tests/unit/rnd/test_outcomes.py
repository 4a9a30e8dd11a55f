"""Predicted against actual over transfers: a constant bias of a plant is learned, and the interval holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from services.refusals import Malformed
from services.rnd.domain import outcomes
from services.rnd.domain.outcomes import Calibration, Outcome, Prior

START = datetime(2026, 3, 1, tzinfo=UTC)
TITRE = Outcome(
    transfer="T1",
    event="e1",
    at=START,
    product="P1",
    plant="plant-2",
    cqa="titre",
    unit="g/L",
    predicted=10.0,
    deviation=1.0,
    told=10.0,
    low=7.0,
    high=13.0,
    actual=12.0,
    model="twin/3",
)


def after(number: int, actual: float, **given: object) -> Outcome:
    fields = {"transfer": f"T{number}", "event": f"e{number}", "at": START + timedelta(days=number)}
    return replace(TITRE, **{**fields, "actual": actual, **given})  # type: ignore[arg-type]


def learned(*known: Outcome, prior: Prior | None = None, deviation: float = 1.0) -> Calibration:
    return outcomes.calibrate(known, deviation=deviation, model="twin/3", prior=prior)


def transfers(rng: np.random.Generator, bias: float, noise: float, count: int = 5) -> list[Outcome]:
    """Successive transfers to a plant with a constant bias, each predicted with what was learned before."""
    known: list[Outcome] = []
    for number in range(count):
        raw = float(rng.uniform(9, 11))
        calibration = learned(*known) if known else outcomes.untaught("titre", deviation=1.0)
        told = outcomes.predict(calibration, raw)
        actual = raw + bias + noise * float(rng.standard_normal())
        known.append(after(number, actual, predicted=raw, told=told.value, low=told.low, high=told.high))
    return known


def test_the_gap_shrinks_over_five_transfers_to_a_plant_with_a_constant_bias() -> None:
    rng = np.random.default_rng(3)
    runs = [transfers(rng, bias=3.0, noise=0.5) for _ in range(200)]
    mean = [abs(np.mean([run[k].gap_told for run in runs])) for k in range(5)]
    # No bias is believed as firmly as one transfer: what is left after n of them is 1 / (1 + n).
    assert mean == pytest.approx([3 / (1 + n) for n in range(5)], abs=0.15)
    widths = [np.mean([run[k].high - run[k].low for run in runs]) for k in range(5)]
    assert widths[1] > widths[0]  # the first gap surprises
    assert widths[4] < widths[1]  # and is known in the end
    assert np.mean([outcomes.gaps(run).shrinks for run in runs]) > 0.95


def test_the_interval_holds_where_the_twin_is_right() -> None:
    rng = np.random.default_rng(4)
    runs = [transfers(rng, bias=0.0, noise=1.0) for _ in range(200)]
    held = np.mean([one.inside for run in runs for one in run])
    assert 0.94 < held < 0.995
    assert abs(np.mean([one.told - one.predicted for run in runs for one in run])) < 0.1


def test_bias_and_spread_are_those_of_the_conjugate_prior() -> None:
    known = [after(1, 12.0), after(2, 13.0)]
    found = learned(*known, prior=Prior(strength=2, freedom=3), deviation=0.8)
    # n 2, mean 2.5, sum of squares 0.5
    assert found.bias == pytest.approx(2 * 2.5 / 4)
    assert found.spread**2 == pytest.approx((3 * 0.64 + 0.5 + 2.5**2 * 2 * 2 / 4) / 5)
    next_ = outcomes.predict(found, 10.0, level=0.9)
    reach = stats.t.isf(0.05, 5) * found.spread * math.sqrt(1 + 1 / 4)
    assert (next_.value, next_.low, next_.high) == pytest.approx((11.25, 11.25 - reach, 11.25 + reach))


def test_a_stronger_belief_in_no_bias_moves_less() -> None:
    weak, strong = (learned(after(1, 12.0), prior=Prior(strength=one)) for one in (0.5, 4.0))
    assert 0 < strong.bias < weak.bias < 2


def test_a_small_spread_in_the_plant_narrows_the_interval_below_the_twins_own() -> None:
    known = [after(n, 10.0 + 0.1 * (-1) ** n) for n in range(12)]
    own = outcomes.predict(outcomes.untaught("titre", deviation=1.0), 10.0)
    taught = outcomes.predict(learned(*known), 10.0)
    assert taught.high - taught.low < 0.6 * (own.high - own.low)


def test_gaps_of_another_version_of_the_twin_count_less() -> None:
    same, other = learned(after(1, 12.0)), learned(after(1, 12.0, model="twin/2"))
    assert other.bias == pytest.approx(2 * 0.25 / 1.25)
    assert other.bias < same.bias
    none = learned(after(1, 12.0, model="twin/2"), prior=Prior(other_model=0))
    assert (none.bias, none.weight) == (0, 0)


def test_an_attribute_compared_by_ratios_is_corrected_by_a_factor() -> None:
    known = [after(n, 12.0, predicted=10.0, scale="ratio", deviation=0.1) for n in range(20)]
    found = learned(*known, deviation=0.1)
    assert math.exp(found.bias) == pytest.approx(1.2, rel=0.02)
    next_ = outcomes.predict(found, 100.0)
    assert next_.value == pytest.approx(120, rel=0.02)
    assert next_.low > 0


def test_order_and_repetition_do_not_matter() -> None:
    known = [after(n, 10 + n / 3) for n in range(6)]
    assert learned(*known[::-1], *known[:2]) == learned(*known)
    assert learned(*known).events == tuple(f"e{n}" for n in range(6))


def test_the_table_of_gaps_tells_bias_and_spread_per_attribute() -> None:
    purity = [after(n, 98.0 + n, cqa="purity", unit="%", predicted=99.0, event=f"p{n}") for n in range(3)]
    table = outcomes.by_cqa([after(1, 12.0), after(2, 13.0, told=12.5), *purity])
    assert [one.cqa for one in table] == ["purity", "titre"]
    titre = table[1]
    assert (titre.own, titre.told) == ((2.0, 3.0), (2.0, 0.5))
    assert (titre.bias, titre.spread) == pytest.approx((2.5, math.sqrt(0.5)))
    assert (titre.inside, titre.shrinks, titre.transfers) == (2, True, ("T1", "T2"))
    alone = outcomes.gaps([after(1, 20.0)])
    assert (alone.spread, alone.shrinks, alone.inside) == (None, None, 0)


def test_what_cannot_be_is_refused_by_its_name() -> None:
    taught = learned(after(1, 12.0))
    refusals: dict[str, Callable[[], object]] = {
        "outcomes": learned,
        "cqa": lambda: learned(after(1, 12.0), after(2, 12.0, cqa="purity")),
        "plant": lambda: learned(after(1, 12.0), after(2, 12.0, plant="plant-1")),
        "unit": lambda: learned(after(1, 12.0), after(2, 12.0, unit="mg/L")),
        "deviation": lambda: learned(after(1, 12.0), deviation=0),
        "actual": lambda: after(1, float("nan")),
        "told": lambda: after(1, 12.0, told=20.0),
        "at": lambda: replace(TITRE, at=datetime(2026, 1, 1)),
        "scale": lambda: replace(TITRE, scale="percent"),  # type: ignore[arg-type]
        "level": lambda: outcomes.predict(taught, 10, level=95),
        "strength": lambda: Prior(strength=0),
        "other_model": lambda: Prior(other_model=2),
        "predicted": lambda: after(1, 12.0, predicted=-1.0, scale="ratio"),
    }
    for field, call in refusals.items():
        with pytest.raises(Malformed) as refused:
            call()
        assert refused.value.field == field
