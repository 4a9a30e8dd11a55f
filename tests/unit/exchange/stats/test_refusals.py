"""What does not fit is refused with its name, before anything of it is sent."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from services.exchange.domain.errors import Unfit
from services.exchange.domain.rounds import words
from services.exchange.domain.stats.models import MODELS, model_of
from services.exchange.domain.stats.protocol import Ask, State
from services.refusals import Malformed
from tests.unit.exchange.stats import rossi
from tests.unit.exchange.stats.federation import modulo, play, rows, split
from tests.unit.exchange.stats.rossi import ROSSI

RACES = {"column": "race", "levels": ["0", "1"], "reference": "0"}


def fit(spec: dict[str, Any], tables: list[dict[str, Any]]) -> Any:
    return play(MODELS[spec["model"]], spec, tables)


def changed(column: str, row: int, value: float) -> dict[str, Any]:
    values = ROSSI[column].copy()
    values[row] = value
    return {**ROSSI, column: values}


@pytest.mark.parametrize(
    ("spec", "table", "reason", "field"),
    [
        (rossi.logistic(), changed("age", 5, np.nan), "MISSING_VALUE", "age"),
        (rossi.logistic(), changed("age", 5, np.inf), "MISSING_VALUE", "age"),
        (rossi.logistic(), changed("age", 5, 61), "OUT_OF_RANGE", "age"),
        (rossi.logistic(), changed("arrest", 5, 2), "NOT_ZERO_OR_ONE", "arrest"),
        (rossi.linear(), changed("prio", 5, 31), "OUT_OF_RANGE", "prio"),
        (rossi.poisson(), changed("prio", 5, 1.5), "NOT_A_COUNT", "prio"),
        (rossi.poisson(), changed("prio", 5, -1), "NOT_A_COUNT", "prio"),
        (rossi.poisson(), changed("week", 5, 0), "OUT_OF_RANGE", "week"),
        (rossi.cox(), changed("week", 5, -1), "NEGATIVE_TIME", "week"),
        (rossi.cox(), changed("arrest", 5, 0.5), "NOT_ZERO_OR_ONE", "arrest"),
        (rossi.cox_grid(grid=[10, 20, 30]), ROSSI, "BEYOND_GRID", "week"),
        (rossi.cox(terms=[RACES]), changed("race", 5, 2), "UNKNOWN_LEVEL", "race"),
        (rossi.cox(terms=[RACES]), changed("race", 5, 0.5), "NOT_A_NAME", "race"),
        (rossi.cox(), {name: ROSSI[name] for name in ROSSI if name != "prio"}, "NO_SUCH_COLUMN", "prio"),
        (rossi.cox(), {**ROSSI, "prio": np.array(["x"] * 432)}, "NOT_NUMBERS", "prio"),
        (rossi.cox(rows_at_most=100), ROSSI, "TOO_MANY_ROWS", "rows_at_most"),
    ],
)
def test_a_site_refuses_its_own_data_before_it_sends_anything(
    spec: dict[str, Any], table: dict[str, Any], reason: str, field: str
) -> None:
    model = model_of(spec)
    ask = model.ask(model.start(spec))
    assert ask is not None
    with pytest.raises(Unfit) as refused:
        model.contribute(ask, table)
    assert (refused.value.reason, refused.value.field) == (reason, field)


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(Malformed, match="UNEQUAL_COLUMNS"):
        fit(rossi.cox(), [{**ROSSI, "prio": ROSSI["prio"][:-1]}])


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"terms": []}, "NOT_A_LIST", "spec.terms"),
        ({"terms": [*rossi.TERMS, rossi.TERMS[0]]}, "TERM_TWICE", "spec.terms"),
        ({"terms": [{"column": "age", "low": 9, "high": 9}]}, "EMPTY_RANGE", "spec.terms[0].high"),
        ({"terms": [{"column": "age"}]}, "MISSING_FIELD", "spec.terms[0].low"),
        ({"terms": [{"column": "age", "low": float("nan"), "high": 9}]}, "OUT_OF_RANGE", "spec.terms[0].low"),
        ({"terms": [{**RACES, "reference": "2"}]}, "NOT_A_CHOICE", "spec.terms[0].reference"),
        ({"colour": 1}, "UNKNOWN_FIELD", "spec.colour"),
        ({"ridge": -1}, "OUT_OF_RANGE", "spec.ridge"),
        ({"max_rounds": 2.5}, "OUT_OF_RANGE", "spec.max_rounds"),
        ({"max_rounds": 7.5}, "NOT_WHOLE", "spec.max_rounds"),
        ({"intercept": "yes"}, "NOT_A_FLAG", "spec.intercept"),
        ({"outcome": "arrest"}, "NOT_A_MAPPING", "spec.outcome"),
        ({"outcome": {"column": ""}}, "NOT_TEXT", "spec.outcome.column"),
        ({"errors": "cluster"}, "MISSING_FIELD", "spec.clusters"),
        ({"model": "cox"}, "UNKNOWN_FIELD", "spec.intercept"),
    ],
)
def test_a_specification_names_the_field_at_fault(change: dict[str, Any], reason: str, field: str) -> None:
    said = rossi.logistic(**change)
    if change.get("model") == "cox":
        said = {**rossi.cox(), "intercept": True}
    with pytest.raises(Malformed) as refused:
        model_of(said).start(said)
    assert (refused.value.reason, refused.value.field) == (reason, field)


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(Malformed, match="NO_SUCH_MODEL"):
        model_of({"model": "oracle"})


def test_too_few_sites_with_rows_are_refused_before_anything_is_summed() -> None:
    spec = {**rossi.cox(), "contributing_at_least": 3}
    nothing = {name: values[:0] for name, values in ROSSI.items()}
    with pytest.raises(Unfit, match="TOO_FEW_SITES: 2 sites"):
        fit(spec, [*modulo(ROSSI, 2), nothing, {}])


def test_a_level_at_one_site_is_refused_or_dropped() -> None:
    tables = modulo(ROSSI, 3)
    for at, table in enumerate(tables):
        table["ward"] = np.array(["a", "b", "c" if at == 0 else "a"])[np.arange(len(table["age"])) % 3]
    ward = {"column": "ward", "levels": ["a", "b", "c"], "reference": "a"}
    spec = rossi.logistic(terms=[*rossi.TERMS, ward], sites_at_least=2)
    with pytest.raises(Unfit, match="TOO_FEW_SITES_FOR_TERM: ward=c"):
        fit(spec, tables)
    found = fit({**spec, "one_site": "drop"}, tables)
    assert found.flags == ("DROPPED:ward=c",)
    assert "ward=c" not in [one.name for one in found.estimates]
    # The second question must not ask for the level's sum any more.
    model = model_of(spec)
    state = model.start({**spec, "one_site": "drop"})
    ask = model.ask(state)
    assert ask is not None
    state = model.take(state, np.sum([model.contribute(ask, table) for table in tables], axis=0))
    ask = model.ask(state)
    assert ask is not None
    parts = {part.name: part.size for part in model.layout(ask).parts}
    assert parts["sum"] == len(rossi.TERMS) + 1


def test_protected_jobs_need_rows_for_their_parameters_and_cases_for_their_estimates() -> None:
    few = [rows(table, np.arange(6)) for table in modulo(ROSSI, 3)]
    with pytest.raises(Unfit, match="TOO_MANY_PARAMETERS"):
        fit(rossi.logistic(parameters_per_row=0.33), few)
    rare = {**ROSSI, "arrest": (np.arange(432) < 2).astype(float)}
    for make in (rossi.logistic, rossi.cox, rossi.cox_grid):
        with pytest.raises(Unfit, match="SMALL_CELL"):
            fit(make(cells_at_least=3), split(rare, 3))


def test_a_protected_cox_grid_is_joined_and_equals_all_rows_on_that_grid() -> None:
    with pytest.raises(Unfit, match="SMALL_CELL"):
        fit(rossi.cox_grid(cells_at_least=3), split(ROSSI, 3))
    found = fit(rossi.cox_grid(cells_at_least=3, small_cells="coarsen"), split(ROSSI, 3))
    assert min(count for count in found.tables["deaths"] if count) >= 3
    whole = fit(rossi.cox_grid(grid=found.tables["grid"]), [ROSSI])
    for one, other in zip(found.estimates, whole.estimates, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-12)
        assert one.standard_error == pytest.approx(other.standard_error, abs=1e-12)


def test_outcomes_that_do_not_vary_are_refused() -> None:
    zero = np.zeros(432)
    for make, column, reason in (
        (rossi.logistic, "arrest", "SMALL_CELL"),
        (rossi.cox, "arrest", "SMALL_CELL"),
        (rossi.poisson, "prio", "SMALL_CELL"),
        (rossi.linear, "prio", "CONSTANT_OUTCOME"),
    ):
        with pytest.raises(Unfit, match=reason):
            fit(make(), split({**ROSSI, column: zero}, 3))
    with pytest.raises(Unfit, match="CONSTANT_COLUMN: age"):
        fit(rossi.logistic(), split({**ROSSI, "age": zero + 30}, 3))


def test_what_is_sent_back_must_have_the_layout_of_the_ask() -> None:
    model = MODELS["cox"]
    state = model.start(rossi.cox())
    with pytest.raises(Malformed, match="WRONG_TOTAL"):
        model.take(state, np.zeros(3))
    with pytest.raises(Malformed, match="WRONG_TOTAL"):
        model.take(state, np.full(8, np.nan))
    with pytest.raises(Malformed, match="NOT_DONE"):
        model.result(state)
    ask = Ask(state.spec, "fit", 3, (1.0,) * 7)
    with pytest.raises(Malformed, match="WRONG_PARAMETERS"):
        model.contribute(ask, ROSSI)
    with pytest.raises(Malformed, match="NO_SUCH_PHASE"):
        MODELS["counts"].layout(Ask(_counts(), "fit", 3))
    with pytest.raises(Malformed, match="NOT_AN_ASK"):
        Ask.from_json({"spec": {}, "phase": "fit"})
    with pytest.raises(Malformed, match="NOT_A_STATE"):
        State.from_json({"spec": {}})


@pytest.mark.parametrize(
    ("model", "spec", "point"),
    [
        ("logistic", rossi.logistic(), [0.0, 0.0, 1e300]),
        ("linear", rossi.linear(), [0.0, 2.0, 0.0, 0.0]),
        ("linear", rossi.linear(), [0.0, 0.0]),
        ("logistic", rossi.logistic(), [0.0, float("nan")]),
        ("logistic", rossi.logistic(), [0.0, 1.0, 5.0]),
        ("cox_grid", rossi.cox_grid(grid=[26.0, 52.0]), [0.0, 3.0, 25.0, 26.0, 52.0]),
        ("cox_grid", rossi.cox_grid(grid=[26.0, 52.0]), [0.0, 2.0, 52.0, 26.0]),
    ],
    ids=["no bound", "divided by 0", "no scale", "NaN", "too many", "a time not agreed", "times in disorder"],
)
def test_what_a_coordinator_may_not_ask_is_a_refusal_that_names_the_rule(
    model: str, spec: dict[str, Any], point: list[float]
) -> None:
    found: Any = MODELS[model]
    agreed = found.start(spec).spec
    terms = len(found.read(agreed).terms)
    width = terms + found.read(agreed).intercept
    far = 1e300 if 1e300 in point else 0.0
    own = [value for value in point if value != 1e300]
    frame = [1.0] * terms + [0.0] * terms + [1e-10] * terms
    ask = Ask(agreed, "fit", 3, (*frame, *own, *[far] * width))
    with np.errstate(over="ignore"), pytest.raises(Malformed, match=r"WRONG_PARAMETERS|NO_BOUND"):
        words(found.layout(ask), 3)


def _counts() -> dict[str, Any]:
    return {"model": "counts", "by": [{"column": "race", "levels": ["0", "1"]}]}


def test_a_vector_beyond_its_bounds_is_never_masked() -> None:
    model = MODELS["counts"]
    ask = Ask(model.start({**_counts(), "rows_at_most": 10}).spec, "sums", 2)
    layout = model.layout(ask)
    good = layout.join({"counts": [4, 5], "cell_sites": [1, 1]})
    assert good.tolist() == [4, 5, 1, 1]
    for counts in ([4, 11], [4, np.nan], [4, -np.inf]):
        with pytest.raises(Unfit, match="BEYOND_BOUND"):
            layout.join({"counts": counts, "cell_sites": [1, 1]})
    with pytest.raises(Malformed, match="WRONG_LENGTH"):
        layout.check(np.zeros(3))


def test_the_specification_that_travels_is_the_same_however_it_was_written() -> None:
    one = MODELS["cox"].start({**rossi.cox(), "ridge": 0})
    other = MODELS["cox"].start(dict(reversed(list(rossi.cox(ridge=0.0, level=0.95).items()))))
    assert one == other
    again = MODELS["cox"].start(json.loads(json.dumps(one.to_json()["spec"])))
    assert again.spec == one.spec
    first, second = MODELS["cox"].ask(one), MODELS["cox"].ask(MODELS["cox"].start(rossi.cox(level=0.9)))
    assert first is not None
    assert second is not None
    assert first.digest() != second.digest()
