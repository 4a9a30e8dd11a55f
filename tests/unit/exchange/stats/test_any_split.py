"""Whoever holds a row, and in whatever order sites are added, the result is the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.exchange.domain.stats.models import MODELS
from tests.unit.exchange.stats import rossi
from tests.unit.exchange.stats.federation import fixed_point, plain_sum, play, rows
from tests.unit.exchange.stats.rossi import ROSSI
from tests.unit.exchange.stats.test_sums import CURVES, GBSG2, MOMENTS, TABLES, numbers, public

JOBS = [
    (rossi.linear(), ROSSI),
    (rossi.logistic(), ROSSI),
    (rossi.poisson(), ROSSI),
    (rossi.cox_grid(grid=list(range(4, 53, 4))), ROSSI),
    (public(MOMENTS), GBSG2),
    (public(CURVES, grid=list(range(100, 2801, 100))), GBSG2),
    (public(TABLES), GBSG2),
]
WHOLE: dict[str, Any] = {}


def told(spec: dict[str, Any], tables: list[dict[str, Any]], add: Any) -> np.ndarray[Any, Any]:
    return np.array(numbers(play(MODELS[spec["model"]], spec, tables, add).to_json()))


@pytest.mark.parametrize(("spec", "table"), JOBS, ids=lambda one: one.get("model", "") if one else "")
@settings(max_examples=8, deadline=None)
@given(sites=st.integers(1, 8), seed=st.integers(0, 2**31), uneven=st.floats(0.1, 3.0), masked=st.booleans())
def test_no_split_changes_a_result(
    spec: dict[str, Any], table: dict[str, Any], sites: int, seed: int, uneven: float, masked: bool
) -> None:
    random = np.random.default_rng(seed)
    n = len(next(iter(table.values())))
    where = random.choice(sites, n, p=random.dirichlet(np.full(sites, uneven)))
    tables = [rows(table, where == site) for site in range(sites)]
    if spec["model"] not in WHOLE:
        WHOLE[spec["model"]] = told(spec, [table], plain_sum)
    whole = WHOLE[spec["model"]]
    found = told(spec, tables, fixed_point if masked else plain_sum)
    assert np.all(np.abs(found - whole) <= 1e-9 * np.maximum(1, np.abs(whole)))
    again = told(spec, tables[::-1], plain_sum)
    assert np.all(np.abs(again - whole) <= 1e-10 * np.maximum(1, np.abs(whole)))
