"""What outcomes teach: bias, scatter and how much the intervals covered."""

from __future__ import annotations

import math

import numpy as np
import pytest

from services.production.domain.twin.errors import Refused
from services.production.domain.twin.recalibrate import Outcome, recalibrate


def outcome(actual: float, *, mean: float = 3.0, sd: float = 0.1, cqa: str = "titre") -> Outcome:
    return Outcome(cqa, mean, sd, mean - 1.96 * sd, mean + 1.96 * sd, actual)


def test_one_outcome_moves_the_next_prediction_a_little() -> None:
    found = recalibrate([outcome(2.6)])["titre"]
    assert found.mean_error == pytest.approx(-0.4)
    assert -0.4 < found.bias < 0
    assert found.extra_sd == 0
    assert (found.outcomes, found.covered) == (1, 0.0)
    assert math.isnan(found.error_sd)


def test_many_outcomes_are_believed() -> None:
    rng = np.random.default_rng(3)
    found = recalibrate([outcome(float(actual)) for actual in rng.normal(2.7, 0.3, 400)])["titre"]
    assert found.bias == pytest.approx(-0.3, abs=0.04)
    assert found.extra_sd == pytest.approx(math.sqrt(0.3**2 - 0.1**2), abs=0.03)
    assert found.covered < 0.6


def test_a_twin_that_is_right_is_left_alone() -> None:
    rng = np.random.default_rng(4)
    found = recalibrate([outcome(float(actual)) for actual in rng.normal(3.0, 0.1, 400)])["titre"]
    assert found.bias == pytest.approx(0.0, abs=0.02)
    assert found.extra_sd < 0.04
    assert found.covered == pytest.approx(0.95, abs=0.03)


def test_attributes_are_kept_apart() -> None:
    found = recalibrate([outcome(2.6), outcome(0.9, mean=0.5, cqa="impurity")])
    assert list(found) == ["impurity", "titre"]
    assert found["impurity"].mean_error == pytest.approx(0.4)


def test_an_outcome_that_is_no_number_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        recalibrate([outcome(2.6), outcome(math.nan)])
    assert refused.value.field == "outcomes[1].actual"
