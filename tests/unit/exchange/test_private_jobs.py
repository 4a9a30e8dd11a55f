"""Studies with noise through the real coordinator and agents: what is told, and what nobody gets around."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.domain import definitions, models, rounds
from services.exchange.site.session import Session
from services.kit.errors import Rejected
from services.refusals import Refusal
from tests.unit.exchange.consortium import Consortium, consortium
from tests.unit.exchange.hospitals import SITES, SPECIFICATION

TABLE = json.dumps({"by": [{"column": name, "levels": ["0", "1"]} for name in ("exposed", "event")]})
MOMENTS = json.dumps({"columns": [{"column": "event", "low": 0, "high": 1}]})
NOISE: dict[str, Any] = {"model": "counts", "specification": TABLE, "epsilon": 1.0, "delta": 1e-6}


def _exact(found: Consortium) -> dict[tuple[str, str], int]:
    held = [found.hospitals[site].held.columns for site in SITES]
    return {
        (exposed, event): sum(
            int(((one["exposed"] == float(exposed)) & (one["event"] == float(event))).sum()) for one in held
        )
        for exposed in "01"
        for event in "01"
    }


@pytest.mark.req("G3a")
async def test_a_study_with_noise_tells_counts_and_what_they_cost_a_patient() -> None:
    async with consortium(SITES) as found:
        found.request(**NOISE)
        found.approve()
        await found.step()
        (insight,) = found.insights()
        told, exact = json.loads(insight.tables), _exact(found)
        off = np.array([cell["count"] - exact[tuple(cell["levels"])] for cell in told["cells"]])
        assert (np.abs(off) < 6 * told["noise"]["standard_deviation"]).all()
        assert (off != 0).all()
        assert told["noise"]["standard_deviation"] == pytest.approx(4.2247 * 1.5**0.5, rel=1e-3)
        assert (insight.epsilon, told["noise"]["delta"], told["noise"]["accountant"]) == (1.0, 1e-6, "PLD")
        assert insight.rounds == 1
        assert "NOISED" in insight.flags
        assert "epsilon 1, delta 1e-06 (PLD)" in insight.statement
        assert abs(insight.members - 900) < 100


async def test_beside_a_noised_answer_no_exact_count_of_patients_is_told() -> None:
    async with consortium(SITES) as found:
        found.request(**NOISE)
        found.approve()
        await found.step()
        assert found.insights()
        metered = found.service.all(events.ContributionMetered)
        assert len(metered) == len(SITES)
        assert {(one.numerator, one.denominator) for said in metered for one in said.quality} == {(0, 0)}
        assert not any(one.HasField("quality_score") for one in metered), "what was withheld has no score"


async def test_two_studies_of_the_same_have_other_noise() -> None:
    async with consortium(SITES) as found:
        for study in ("s1", "s2"):
            found.request(study, **NOISE)
            found.approve(study)
            await found.step(study)
        one, other = (json.loads(insight.tables)["cells"] for insight in found.insights())
        assert [cell["count"] for cell in one] != [cell["count"] for cell in other]


async def test_a_site_answers_a_job_with_noise_once_whatever_the_coordinator_asks() -> None:
    """Noise drawn anew round after round would be averaged away."""
    async with consortium(SITES) as found:
        found.request(**NOISE)
        found.approve()
        study = found.study().message()
        hashed = definitions.parameters_hash(study.definition, study.model, study.specification)
        freeze = api.FreezeTask(study="s1", job="job", participants=SITES, parameters_hash=hashed)
        sessions = {site: Session(found.site(site), freeze) for site in SITES}
        keys = [(await session.freeze())[0] for session in sessions.values()]
        for session in sessions.values():
            await session.begin(api.BeginTask(job="job", sites=keys))
        task = api.RoundTask(job="job", round=1, attempt=1, participants=SITES, phase="noised")
        made = [await session.answer(task) for session in sessions.values()]
        again = await sessions["hospital-a"].answer(task)
        assert again == made[0], "asked again over a new connection, a site says the same"
        opening = api.OpenTask(job="job", round=1, attempt=1)
        for one in (said.statement for said in made):
            opening.statements.add(site=one.site, vector=one.vector, seed=one.seed, signature=one.signature)
        for session in sessions.values():
            await session.open(opening)
        task.round = 2
        for session in sessions.values():
            with pytest.raises(Refusal, match="PHASE_OUT_OF_TURN"):
                await session.answer(task)


@pytest.mark.parametrize(
    ("name", "opened", "asked"),
    [
        ("logistic", "", "fit"),
        ("logistic", "presence", "presence"),
        ("logistic", "fit", "moments"),
        ("logistic", "moments", "scores"),
        ("moments", "means", "means"),
        ("counts", "sums", "sums"),
    ],
)
def test_a_phase_comes_in_its_turn_and_once(name: str, opened: str, asked: str) -> None:
    said = {"logistic": SPECIFICATION, "counts": TABLE, "moments": MOMENTS}[name]
    model, spec = models.model(name), models.specification(name, said, public=False)[0]
    with pytest.raises(Refusal, match="PHASE_OUT_OF_TURN"):
        rounds.check_course(model, spec, opened, asked)
    course = model.course(spec)
    for before, after in pairwise(("", *course)):
        rounds.check_course(model, spec, before, after)
    if model.repeats:
        rounds.check_course(model, spec, "fit", "fit")


async def test_a_study_that_cannot_have_noise_is_refused_with_the_models_that_can() -> None:
    async with consortium(SITES) as found:
        cox = {"time": "time_days", "event": "event", "terms": [{"column": "exposed", "low": 0, "high": 1}]}
        for model, said in (("cox", cox), ("logistic", {})):
            with pytest.raises(Rejected, match="counts, moments, histogram") as refused:
                found.request(f"s-{model}", **{**NOISE, "model": model, "specification": json.dumps(said)})
            assert (refused.value.reason, refused.value.field) == ("NOT_OFFERED", "epsilon")
        with pytest.raises(Rejected) as valued:
            found.request("s3", **NOISE, valued=True)
        assert (valued.value.reason, valued.value.field) == ("NOT_OFFERED", "valued")
