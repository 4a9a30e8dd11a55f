"""What is bad in a study or at a site: refused by its rule, the job's state clean, nothing leaked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest

from pharmaloop.exchange.v1 import events_pb2 as events
from services.exchange.domain.stats.protocol import Vector
from services.exchange.site.session import Session
from services.exchange.site.source import CohortData
from services.exchange.views import STUDIES
from services.kit.errors import Rejected
from tests.unit.exchange.consortium import Consortium, consortium
from tests.unit.exchange.hospitals import SITES, SPECIFICATION, data, pooled, request, without
from tests.unit.exchange.test_jobs import _lose, _marks, _told

Columns = dict[str, Vector]


# -- what is refused when it is asked -------------------------------------------------


def _specification(**changes: Any) -> str:
    """The usual one, with other words of its first term or of itself."""
    made = json.loads(SPECIFICATION)
    made["terms"][0] |= {name: value for name, value in changes.items() if name in ("low", "high")}
    made |= {name: value for name, value in changes.items() if name not in ("low", "high")}
    return json.dumps(made)


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"purpose": ""}, "REQUIRED", "purpose"),
        ({"datasets": SITES[:2]}, "TOO_FEW_SITES", "datasets"),
        ({"specification": _specification(high=1e15)}, "OUT_OF_RANGE", "high"),
        ({"specification": _specification(high=float("nan"))}, "OUT_OF_RANGE", "high"),
        ({"specification": _specification(cells_at_least=1)}, "TOO_LAX", "specification.cells_at_least"),
    ],
    ids=["no purpose", "two sites", "a range beyond the fixed point", "a range of NaN", "a lax threshold"],
)
async def test_a_study_that_may_not_be_asked_is_refused_and_asks_nobody(
    change: dict[str, Any], reason: str, field: str
) -> None:
    async with consortium(SITES) as found:
        before = len(found.service.rows())
        asked = request("s1", found.now, change.pop("datasets", SITES))
        for name, value in change.items():
            setattr(asked, name, value)
        with pytest.raises(Rejected) as refusal:
            found.command("RequestStudy", asked, "analyst")
        assert refusal.value.reason == reason
        assert refusal.value.field.endswith(field)
        assert refusal.value.description, "the next step"
        assert len(found.service.rows()) == before
        assert not found.service.states(STUDIES)
        found.run_opened("s1")
        assert await found.step() is None
        assert not any(hospital.asked for hospital in found.hospitals.values()), "no cohort is built for it"
        await _goes_on(found)


# -- what is refused while it is computed ---------------------------------------------


class Bad(NamedTuple):
    """What is spoilt, by which rule the job ends, where the study then stands, and whom the end names."""

    spoil: Callable[[Consortium], None]
    reason: str
    state: str
    sites: tuple[str, ...] = ()
    specification: str = SPECIFICATION


def _at(site: str, change: Callable[[Columns], Any]) -> Callable[[Consortium], None]:
    """Another table at one site, of the same patients."""

    def spoil(found: Consortium) -> None:
        held = found.hospitals[site].held
        columns = {name: values.copy() for name, values in held.columns.items()}
        change(columns)
        found.hospitals[site].held = CohortData(columns, held.lots, held.members, held.quality)

    return spoil


def _everywhere(change: Callable[[Columns], Any], sites: tuple[str, ...] = SITES) -> Any:
    def spoil(found: Consortium) -> None:
        for site in sites:
            _at(site, change)(found)

    return spoil


def _separable(columns: Columns) -> None:
    columns["event"][:] = columns["exposed"]


def _one_patient_less(found: Consortium) -> None:
    found.hospitals["hospital-b"].held = without(found.hospitals["hospital-b"].held, 1)


def _drops(round_: int) -> Callable[[Consortium], None]:
    return lambda found: _lose(found, "hospital-c", round_)


def _other_parameters(found: Consortium) -> None:
    def bend(kind: str, task: Any) -> Any:
        if kind != "round" or task.round.round != 3:
            return task
        altered = type(task).FromString(task.SerializeToString())
        altered.round.parameters[-1] += 0.5
        return altered

    found.lines["hospital-b"].bend_task = bend


def _answers_late(found: Consortium) -> None:
    """What the site says in the second round is said in the third again, and its own word is lost."""
    kept: list[Any] = []

    def bend(method: str, said: Any) -> Any:
        if method != "vector" or said.round not in (2, 3):
            return said
        kept.append(said)
        return kept[0]

    found.lines["hospital-c"].bend_said = bend


C, B = ("hospital-c",), ("hospital-b",)
REFUSING = _specification(fallback="refuse")
CASES: dict[str, Bad] = {
    "a cell under the threshold": Bad(
        _at("hospital-c", lambda columns: columns.update(event=np.eye(1, 300)[0])),
        "CELL_TOO_SMALL",
        "suspended",
        C,
    ),
    "NaN in the design matrix": Bad(
        _at("hospital-c", lambda columns: columns["sex"].__setitem__(0, np.nan)), "NOT_FINITE", "failed", C
    ),
    "a value beyond the fixed point": Bad(
        _at("hospital-c", lambda columns: columns["sex"].__setitem__(0, 1e300)), "OUT_OF_RANGE", "failed", C
    ),
    "a level that one site alone has": Bad(
        _everywhere(lambda columns: columns["sex"].fill(0.0), SITES[1:]), "TOO_FEW_SITES_FOR_TERM", "failed"
    ),
    "singular data": Bad(
        _everywhere(lambda columns: columns["sex"].__setitem__(slice(None), columns["exposed"])),
        "SINGULAR_INFORMATION",
        "failed",
        specification=REFUSING,
    ),
    "separable data": Bad(_everywhere(_separable), "SEPARABLE", "failed", specification=REFUSING),
    "a cohort less one patient": Bad(_one_patient_less, "COHORT_TOO_CLOSE", "suspended", B),
    "a site that drops out before a sum": Bad(_drops(1), "TOO_FEW_SITES", "suspended", C),
    "a site that drops out in mid-round": Bad(_drops(3), "SITE_DROPPED", "suspended", C),
    "a site that answers too late": Bad(_answers_late, "SITE_DROPPED", "suspended", C),
    "other parameters than its peers": Bad(_other_parameters, "CONTEXT_DIFFERS", "failed", B),
}
#: The same patients have been summed before: whoever comes close to that shows somebody.
SUMMED_BEFORE = ("a cohort less one patient",)


@pytest.mark.parametrize("name", CASES)
async def test_a_bad_job_ends_by_its_rule_with_a_clean_state_and_nothing_leaked(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = CASES[name]
    async with consortium(SITES) as found:
        with _noted() as vectors:
            if name in SUMMED_BEFORE:
                await _goes_on(found, "before")
            bad.spoil(found)
            found.request("s1", specification=bad.specification)
            found.approve("s1")
            await found.step("s1")
        (ended,) = found.ended()
        assert (ended.reason, ended.study, tuple(ended.sites)) == (bad.reason, "s1", bad.sites)
        assert ended.statement
        _is_clean(found, bad.state)
        _nothing_leaked(found, vectors, "".join(capsys.readouterr()))
        await _heal(found)
        await _goes_on(found)


def _is_clean(found: Consortium, state: str) -> None:
    """No job is open, nothing was released, and a query counts only where a sum was opened."""
    study = found.study("s1")
    assert (study.state, [job.is_open for job in study.jobs]) == (state, [False])
    assert not found.hub.rooms
    assert not [one for one in found.insights() if one.study == "s1"]
    assert not [one for one in found.service.all(events.ContributionMetered) if one.study == "s1"]
    opened = [one for one in found.service.all(events.JobAudited) if one.study == "s1" and one.rounds]
    assert study.jobs[0].counts == bool(opened)


async def _heal(found: Consortium) -> None:
    for site in SITES:
        found.hospitals[site].held = data(site)
        found.lines[site].bend_said = lambda _, said: said
        found.lines[site].bend_task = lambda _, task: task
        if site not in found.agents:
            found.start(site)


async def _goes_on(found: Consortium, study: str = "after") -> None:
    """The next study is answered as if nothing had been."""
    found.request(study)
    found.approve(study)
    await found.step(study)
    (answer,) = [one for one in found.insights() if one.study == study]
    assert _told(answer) == pytest.approx(pooled([data(site) for site in SITES])[0], abs=1e-10)


# -- what must be nowhere ------------------------------------------------------------------


@contextmanager
def _noted() -> Iterator[dict[str, list[Any]]]:
    """What each site computes, before it is masked."""
    vectors: dict[str, list[Any]] = {site: [] for site in SITES}
    computed = Session._computed

    def noted(self: Session, frozen: Any, ask: Any, task: Any) -> Any:
        vector, context = computed(self, frozen, ask, task)
        vectors[self._site.name].append((vector, context.layout))
        return vector, context

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "_computed", noted)
        yield vectors


def _nothing_leaked(found: Consortium, vectors: dict[str, list[Any]], log: str) -> None:
    """No number of a site, no member and no column is in a message, a row, a document or the log."""
    said = b"".join(message.SerializeToString() for _, message in found.traffic)
    said += b"".join(row.value for row in found.service.rows())
    said += repr(found.service.database.docs).encode() + log.encode()
    marks = [mark for site in SITES for mark in _marks(vectors[site])]
    held = [hospital.held for hospital in found.hospitals.values()]
    marks += [form for one in held for member in one.members for form in (member, member.hex().encode())]
    marks += [values.tobytes() for one in held for values in one.columns.values()]
    assert len(marks) > 1000
    assert not [mark for mark in marks if mark in said]
