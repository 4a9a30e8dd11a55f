"""One site that refuses, fails or changes: what it costs the others, and what is not released."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.coordinator.conductor import Limits
from services.exchange.coordinator.room import Declined
from services.exchange.domain import cohorts, models
from services.exchange.domain.cohorts import Cohort
from services.exchange.domain.disclosure.differencing import TOKEN_BYTES
from services.exchange.domain.disclosure.limits import PROTECTED
from services.exchange.domain.stats.protocol import Vector
from services.exchange.site.source import CohortData
from tests.unit.exchange.consortium import Consortium, consortium
from tests.unit.exchange.hospitals import SITES, SPECIFICATION, TERMS, data, pooled, request, without

FOUR = (*SITES, "hospital-d")


async def _answered(found: Consortium, study: str = "s1") -> None:
    found.request(study)
    found.approve(study)
    await found.step(study)


def _changed(found: Consortium, site: str, change: Callable[[dict[str, Vector]], Any]) -> None:
    held = found.hospitals[site].held
    columns = {name: values.copy() for name, values in held.columns.items()}
    change(columns)
    found.hospitals[site].held = CohortData(columns, held.lots, held.members, held.quality)


def _told(insight: events.InsightPublished) -> np.ndarray[Any, np.dtype[np.float64]]:
    effects = {one.term: one.estimate.value for one in insight.effects}
    return np.array([effects[name] for name in ("intercept", *TERMS)])


# -- a site that cannot, or will not -------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda columns: columns["sex"].__setitem__(0, np.nan), "NOT_FINITE"),
        (lambda columns: columns.pop("sex"), "NO_SUCH_COLUMN"),
        (lambda columns: columns["sex"].__setitem__(0, 1e9), "OUT_OF_RANGE"),
    ],
    ids=["when it freezes", "a column that it lacks", "in the first round"],
)
async def test_three_sites_answer_without_the_one_whose_data_do_not_do(change: Any, reason: str) -> None:
    async with consortium(FOUR) as found:
        _changed(found, "hospital-d", change)
        await _answered(found)
        (insight,) = found.insights()
        assert list(insight.sites) == list(SITES)
        beta, _ = pooled([found.hospitals[site].held for site in SITES])
        assert _told(insight) == pytest.approx(beta, abs=1e-10)
        said = [one for _, one in found.traffic if isinstance(one, api.DeclineTaskRequest)]
        assert reason in [*(one.refusal.reason for one in said), *(one.reason for one in found.ended())]


@pytest.mark.parametrize("reason", ["SITE_FAULT", "CONTEXT_DIFFERS", "ANYTHING_AT_ALL"])
async def test_a_site_that_refuses_the_first_round_costs_an_attempt_and_not_the_study(reason: str) -> None:
    async with consortium(FOUR) as found:

        def bend(method: str, said: Any) -> Any:
            if method != "vector":
                return said
            found.hub.rooms[said.job].decline("hospital-d", Declined(reason, "no"))
            return None

        found.lines["hospital-d"].bend_said = bend
        await _answered(found)
        (insight,) = found.insights()
        assert list(insight.sites) == list(SITES)
        assert not found.ended()
        (audited,) = found.service.all(events.JobAudited)
        assert audited.rounds[0].attempt == 2


async def test_a_site_whose_vectors_are_invalid_is_left_out_like_one_that_is_away() -> None:
    async with consortium(FOUR) as found:

        def bend(method: str, said: Any) -> Any:
            if method == "vector":
                said.words = said.words[:-1]
            # What the exchange refuses is not passed on by an agent that does not keep to the protocol.
            return None if method == "DeclineTask" else said

        found.lines["hospital-d"].bend_said = bend
        await _answered(found)
        (insight,) = found.insights()
        assert list(insight.sites) == list(SITES)
        assert not found.ended()


async def test_a_site_that_is_connected_and_never_freezes_is_left_out_after_two_jobs() -> None:
    async with consortium(FOUR) as found:
        found.jobs._limits = Limits(0.2, 0.5)
        found.lines["hospital-d"].bend_task = lambda kind, task: None if kind == "freeze" else task
        await _answered(found)
        assert [(one.reason, list(one.sites)) for one in found.ended()] == [
            ("SITE_DROPPED", ["hospital-d"])
        ] * 2
        (insight,) = found.insights()
        assert list(insight.sites) == list(SITES)


async def test_a_refusal_after_sums_were_opened_suspends_where_three_others_are_left() -> None:
    """The same sums over the others would show the numbers of the one that refused."""
    async with consortium(FOUR) as found:

        def bend(kind: str, task: Any) -> Any:
            if kind == "round" and task.round.round == 3:
                altered = type(task).FromString(task.SerializeToString())
                altered.round.parameters[-1] += 0.5
                return altered
            return task

        found.lines["hospital-d"].bend_task = bend
        found.request()
        found.approve()
        assert await found.step() is not None
        (ended,) = found.ended()
        assert (ended.reason, list(ended.sites), ended.suspended) == ("CONTEXT_DIFFERS", ["hospital-d"], True)
        found.lines["hospital-d"].bend_task = lambda _, task: task
        await found.step()
        assert list(found.insights()[0].sites) == list(FOUR)


# -- whose data are asked ------------------------------------------------------------


async def test_a_site_answers_no_study_that_names_another_dataset_of_it() -> None:
    async with consortium(SITES) as found:
        site = found.site("hospital-b")
        offered = api.RegisterDatasetRequest(
            dataset="hospital-b/registry",
            site="hospital-b",
            title="another",
            covariates=[cohort.COVARIATE_SEX, cohort.COVARIATE_AGE_BAND],
            queries_per_analyst=9,
            signing_key=site.keys.signing_key,
            mask_key=site.keys.mask_key,
        )
        found.command("RegisterDataset", offered, "owner of hospital-b")
        asked = request("s1", found.now)
        asked.datasets[1] = "hospital-b/registry"
        found.command("RequestStudy", asked, "analyst")
        found.run_opened("s1")
        found.approve()
        await found.step()
        (ended,) = found.ended()
        assert (ended.reason, list(ended.sites)) == ("NOT_ASKED", ["hospital-b"])
        assert found.hospitals["hospital-b"].asked == 0, "no row was read for it"


# -- patients who come and go --------------------------------------------------------


async def test_a_patient_who_comes_while_the_job_runs_is_for_the_next_one() -> None:
    async with consortium(SITES) as found:
        hospital, frozen = found.hospitals["hospital-b"], found.hospitals["hospital-b"].held

        def bend(kind: str, task: Any) -> Any:
            if kind == "confirm":
                hospital.held = data("hospital-b", 301)
            return task

        found.lines["hospital-b"].bend_task = bend
        await _answered(found)
        (insight,) = found.insights()
        assert not found.ended()
        assert insight.members == 900
        held = [found.hospitals["hospital-a"].held, frozen, found.hospitals["hospital-c"].held]
        assert _told(insight) == pytest.approx(pooled(held)[0], abs=1e-10)


async def test_who_withdraws_while_another_hospital_is_waited_for_is_not_in_the_answer() -> None:
    """The first word is old when the last one comes: it is asked for again."""
    async with consortium(SITES) as found:
        found.jobs._limits = Limits(2.0, 0.5, 0.0)
        hospital = found.hospitals["hospital-a"]

        def confirmed(method: str, said: Any) -> Any:
            if method == "ConfirmCohort":
                hospital.held = without(data("hospital-a"), 1)
            return said

        found.lines["hospital-a"].bend_said = confirmed
        await _answered(found)
        assert [one.reason for one in found.ended()] == ["COHORT_CHANGED"]
        assert not found.insights()


async def test_cohorts_are_confirmed_after_the_rounds_are_on_record() -> None:
    """What lies between the last word of a hospital and the release is no wait for the log."""
    async with consortium(SITES) as found:
        audited: list[int] = []

        def bend(kind: str, task: Any) -> Any:
            if kind == "confirm":
                audited.append(len(found.service.all(events.JobAudited)))
            return task

        found.lines["hospital-c"].bend_task = bend
        await _answered(found)
        assert audited == [1]


# -- cells of exposure and outcome -----------------------------------------------------


def _spec(model: str) -> str:
    said: dict[str, Any] = json.loads(SPECIFICATION)
    if model == "mantel_haenszel":
        said = {"outcome": "event", "exposure": "exposed"}
    if model == "poisson":
        said["outcome"]["high"] = 5
    if model == "cox":
        said = {"time": "time_days", "event": "event", "terms": said["terms"]}
    return json.dumps(said)


@pytest.mark.parametrize("model", ["mantel_haenszel", "logistic", "poisson", "cox"])
@pytest.mark.parametrize(("both", "passes"), [(0, True), (1, False), (2, False), (3, True)])
def test_the_exposed_with_the_outcome_are_none_or_enough(model: str, both: int, passes: bool) -> None:
    """Each alone are many: it is together that they are a few patients."""
    held = data("hospital-a")
    exposed, event = np.repeat([1.0, 0.0], [100, 200]), np.zeros(300)
    event[100 - both : 150] = 1.0
    columns = {**held.columns, "exposed": exposed, "event": event, "time_days": np.full(300, 7.0)}
    spec, _ = models.specification(model, _spec(model), public=False)
    frozen = Cohort("job", "s1", SITES, b"", held.members)
    found = cohorts.breaches(frozen, [], columns, spec, PROTECTED)
    assert [one.reason for one in found] == ([] if passes else ["CELL_TOO_SMALL"])
    assert all("exposed=1, outcome=1" in one.description for one in found)


def test_a_factor_of_too_many_levels_is_refused_by_its_hospital() -> None:
    levels = [f"level {n}" for n in range(41)]
    spec, _ = models.specification(
        "counts", json.dumps({"by": [{"column": "ward", "levels": levels}]}), public=False
    )
    frozen = Cohort("job", "s1", SITES, b"", data("hospital-a").members)
    (breach,) = cohorts.breaches(frozen, [], {}, spec, PROTECTED)
    assert (breach.reason, breach.field) == ("TOO_MANY_LEVELS", "ward")


# -- other values of the same patients -----------------------------------------------


@pytest.mark.parametrize(("corrected", "passes"), [(0, True), (1, False), (9, False), (10, True)])
async def test_a_few_corrected_values_of_the_same_patients_wait_like_a_few_patients(
    corrected: int, passes: bool
) -> None:
    """Two answers over the same patients differ by those whose value was corrected in between."""
    async with consortium(SITES) as found:
        await _answered(found)

        def correct(columns: dict[str, Vector]) -> None:
            columns["event"][:corrected] = 1 - columns["event"][:corrected]

        _changed(found, "hospital-a", correct)
        await _answered(found, "s2")
        assert [one.reason for one in found.ended()] == ([] if passes else ["VALUES_TOO_CLOSE"])
        assert len(found.insights()) == 1 + passes


async def test_what_a_site_keeps_of_values_does_not_tell_them() -> None:
    async with consortium(SITES) as found:
        await _answered(found)
        (kept,) = await found.kept["hospital-a"].opened()
        tokens = dict(kept.values)
        assert set(tokens) == {"event", *TERMS}
        each = {tokens["event"][at : at + TOKEN_BYTES] for at in range(0, 300 * TOKEN_BYTES, TOKEN_BYTES)}
        assert len(each) == 300, "patients with the same value have other tokens"


async def test_a_value_that_no_job_uses_may_change() -> None:
    async with consortium(SITES) as found:
        _changed(found, "hospital-a", lambda columns: columns.update(weight=np.ones(300)))
        await _answered(found)
        _changed(found, "hospital-a", lambda columns: columns.update(weight=np.eye(1, 300)[0]))
        await _answered(found, "s2")
        assert not found.ended()
        assert len(found.insights()) == 2
