"""Control charts: what their rules see, and what their alarms cost, against published values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.production.domain.maturity import Ints
from services.production.domain.spc import run_length
from services.production.domain.spc.charts import Cusum, Ewma
from services.production.domain.spc.rules import (
    NELSON,
    RULES,
    WESTERN_ELECTRIC,
    Bools,
    UnknownRule,
    chosen,
    signals,
)

Window = Sequence[float]


def _share(need: int, of: int, beyond: Callable[[float], bool]) -> Callable[[Window], bool]:
    return lambda last: beyond(last[-1]) and sum(map(beyond, last[-of:])) >= need


def _either(need: int, of: int, limit: float) -> Callable[[Window], bool]:
    up, down = _share(need, of, lambda z: z > limit), _share(need, of, lambda z: z < -limit)
    return lambda last: up(last) or down(last)


def _rising(last: Window) -> bool:
    six = last[-6:]
    return len(six) == 6 and (all(a < b for a, b in pairwise(six)) or all(a > b for a, b in pairwise(six)))


def _alternating(last: Window) -> bool:
    steps = [b - a for a, b in zip(last[-14:], last[-13:], strict=False)]
    return len(steps) == 13 and all(a * b < 0 for a, b in pairwise(steps))


#: The rules as they are written, one window at a time.
WRITTEN: dict[str, Callable[[Window], bool]] = {
    "WE1": _either(1, 1, 3),
    "WE2": _either(2, 3, 2),
    "WE3": _either(4, 5, 1),
    "WE4": _either(8, 8, 0),
    "N1": _either(1, 1, 3),
    "N2": _either(9, 9, 0),
    "N3": _rising,
    "N4": _alternating,
    "N5": _either(2, 3, 2),
    "N6": _either(4, 5, 1),
    "N7": lambda last: len(last) >= 15 and all(abs(z) < 1 for z in last[-15:]),
    "N8": lambda last: len(last) >= 8 and all(abs(z) > 1 for z in last[-8:]),
}

Values = st.lists(
    st.one_of(
        st.floats(-4, 4).map(lambda z: round(z, 1)), st.sampled_from([0.5, -0.5, 1.5, -1.5, 2.5, math.nan])
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(Values)
def test_each_rule_holds_where_its_words_say(values: list[float]) -> None:
    z = np.array(values)
    found = signals(z, chosen(RULES))
    known = [place for place, value in enumerate(values) if not math.isnan(value)]
    for name, holds in WRITTEN.items():
        wanted = [known[n] for n in range(len(known)) if holds([values[place] for place in known[: n + 1]])]
        assert np.flatnonzero(found[name]).tolist() == wanted, name


def test_a_chart_without_zones_takes_no_zone_rules() -> None:
    assert [rule.name for rule in chosen(["N1"], zones=False)] == ["N1"]
    with pytest.raises(UnknownRule, match="N5 needs zones"):
        chosen(["N1", "N5"], zones=False)
    with pytest.raises(UnknownRule, match="no rule is called 'N9'"):
        chosen(["N9"])


# -- run lengths --------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "shift", "arl"),
    [
        (("WE1",), 0.0, 370.40),
        (("WE1",), 0.4, 200.08),
        (("WE1",), 1.0, 43.89),
        (("WE1",), 2.0, 6.30),
        (("WE1",), 3.0, 2.00),
        (WESTERN_ELECTRIC, 0.0, 91.75),
        (NELSON[:4], 0.0, 118.9),
        (NELSON, 0.0, 73.7),
    ],
)
def test_rules_alarm_as_often_as_published(rules: tuple[str, ...], shift: float, arl: float) -> None:
    """Champ and Woodall, Technometrics 29 (1987) 393; Nelson's sets by simulation, good to 0.1."""
    told = run_length.of_rules(rules, shift)
    assert abs(told.mean - arl) < 4 * math.hypot(told.error, 0.1)


def test_a_chart_without_rules_never_alarms() -> None:
    assert run_length.of_rules(()).mean == math.inf


@pytest.mark.parametrize(
    ("shift", "arl"), [(0.0, 167.684), (0.25, 74.224), (0.5, 26.630), (1.0, 8.383), (2.0, 3.343)]
)
def test_a_cusum_alarms_as_often_as_published(shift: float, arl: float) -> None:
    """Lucas and Crosier, Technometrics 24 (1982) 199: k 0.5, h 4; digits from `spc` 0.6.7 (R)."""
    assert round(run_length.of_cusum(0.5, 4.0, shift), 3) == arl
    assert run_length.of_cusum(0.5, 4.0, -shift) == pytest.approx(run_length.of_cusum(0.5, 4.0, shift))


@pytest.mark.parametrize(("shift", "arl"), [(0.0, 499.580), (0.5, 31.297), (1.0, 10.331), (2.0, 4.362)])
def test_an_ewma_alarms_as_often_as_published(shift: float, arl: float) -> None:
    """Lambda 0.1, L 2.814, fixed limits; digits from `spc` 0.6.7 (R)."""
    assert round(run_length.of_ewma(0.1, 2.814, shift), 3) == arl


# -- the charts themselves ------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(Values, st.integers(0, 40))
def test_a_series_cut_anywhere_gives_the_same_statistics(values: list[float], cut: int) -> None:
    z, nought = np.array(values, dtype=np.float64)[:, None], np.zeros(1)
    cusum, ewma = Cusum(), Ewma()
    ups, downs = cusum.follow(z, nought, nought)
    first_up, first_down = cusum.follow(z[:cut], nought, nought)
    up, down = (s[-1] if len(s) else nought for s in (first_up, first_down))
    then_up, then_down = cusum.follow(z[cut:], up, down)
    assert np.vstack([first_up, then_up]).tolist() == ups.tolist()
    assert np.vstack([first_down, then_down]).tolist() == downs.tolist()
    w, first = ewma.follow(z, nought), ewma.follow(z[:cut], nought)
    then = ewma.follow(z[cut:], first[-1] if len(first) else nought)
    assert np.vstack([first, then]).tolist() == w.tolist()


def _lengths(alarms: Bools) -> Ints:
    assert alarms.any(axis=0).all(), "every run ends"
    lengths: Ints = alarms.argmax(axis=0) + 1
    return lengths


def test_the_charts_alarm_as_often_as_their_run_lengths_say() -> None:
    runs, z = 4000, np.random.default_rng(3).normal(1.0, 1.0, (200, 4000))
    nought = np.zeros(runs)
    cusum, ewma = Cusum(0.5, 4.0), Ewma(0.1, 2.814)
    for alarms, arl in (
        (cusum.alarms(*cusum.follow(z, nought, nought)), run_length.of_cusum(0.5, 4.0, 1.0)),
        (ewma.alarms(ewma.follow(z, nought)), run_length.of_ewma(0.1, 2.814, 1.0)),
    ):
        lengths = _lengths(alarms)
        assert abs(lengths.mean() - arl) < 4 * lengths.std() / math.sqrt(runs)
