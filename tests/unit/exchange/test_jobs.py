"""A job with agents in memory: what it answers, and what becomes of it when a site does not do its part."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode, aio

from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.api import ExchangeApi
from services.exchange.coordinator.conductor import Limits
from services.exchange.site.seen import SeenStudy
from services.exchange.site.session import Session
from services.exchange.site.source import CohortData
from services.kit.errors import Retryable
from tests.unit.exchange.consortium import Consortium, consortium
from tests.unit.exchange.hospitals import SITES, TERMS, pooled, without

FOUR = (*SITES, "hospital-d")


def _asked(found: Consortium, sites: tuple[str, ...] = ()) -> None:
    found.request(sites=sites)
    found.approve(sites=sites)


def _told(insight: events.InsightPublished) -> np.ndarray[Any, np.dtype[np.float64]]:
    effects = {one.term: one.estimate.value for one in insight.effects}
    return np.array([effects[name] for name in ("intercept", *TERMS)])


@pytest.mark.req("G3a")
async def test_the_answer_is_that_of_all_rows_in_one_place() -> None:
    async with consortium(SITES) as found:
        _asked(found)
        assert await found.step() is None
        (insight,) = found.insights()
        beta, _ = pooled([found.hospitals[site].held for site in SITES])
        assert _told(insight) == pytest.approx(beta, abs=1e-10)
        assert found.study().state == "answered"
        assert not found.hub.rooms
        assert insight.epsilon == 0, "no noise was added, and the answer says so"
        held = [found.hospitals[site].held for site in SITES]
        assert abs(_auc(held, _told(insight)) - _auc(held, beta)) <= 0.01


def _auc(held: list[CohortData], beta: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """How often a patient with the event is given a higher risk than one without, over all sites."""
    columns = {name: np.concatenate([one.columns[name] for one in held]) for name in (*TERMS, "event")}
    scores = beta[0] + np.column_stack([columns[name] for name in TERMS]) @ beta[1:]
    cases, others = scores[columns["event"] == 1], scores[columns["event"] == 0]
    pairs = np.subtract.outer(cases, others)
    found = float(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert found > 0.5
    return found


async def test_who_looks_on_sees_the_round_and_whom_it_waits_for_until_the_rounds_are_on_record() -> None:
    async with consortium(SITES) as found:
        served = ExchangeApi(found.app, found.hub)
        seen: list[api.JobProgress] = []

        async def look() -> None:
            study = await served._study("s1")
            assert study is not None
            seen.append(study.jobs[0].progress)

        def bend(method: str, said: Any) -> Any:
            if method in ("SubmitCohort", "vector", "opening"):
                looks.append(asyncio.get_running_loop().create_task(look()))
            return said

        looks: list[asyncio.Task[None]] = []
        found.lines["hospital-c"].bend_said = bend
        _asked(found)
        await found.step()
        await asyncio.gather(*looks)
        assert any(one.round == 0 and one.rounds == 0 for one in seen), "cohorts are frozen first"
        rounds = [one for one in seen if one.round]
        assert {one.rounds for one in rounds} == {one.round - 1 for one in rounds}
        assert all(set(one.frozen) == set(SITES) for one in rounds)
        assert all(set(one.awaited) | set(one.answered) == set(SITES) for one in rounds)
        over = await served._study("s1")
        assert over is not None
        assert over.jobs[0].rounds
        assert not over.jobs[0].HasField("progress")


# -- sites that do not do their part ------------------------------------------------


def _lose(found: Consortium, site: str, round_: int) -> None:
    """The site's answer to a round is lost, and its connection with it."""
    line = found.lines[site]

    def bend(method: str, said: Any) -> Any:
        if method != "vector" or said.round != round_:
            return said
        asyncio.get_running_loop().create_task(found.kill(site))
        return None

    line.bend_said = bend


@pytest.mark.req("G3a")
async def test_a_site_that_drops_out_before_any_sum_costs_a_new_attempt() -> None:
    async with consortium(FOUR) as found:
        _lose(found, "hospital-d", 1)
        _asked(found)
        await found.step()
        (insight,) = found.insights()
        beta, _ = pooled([found.hospitals[site].held for site in SITES])
        assert _told(insight) == pytest.approx(beta, abs=1e-10)
        assert list(insight.sites) == list(SITES)
        (audited,) = found.service.all(events.JobAudited)
        assert [record.attempt for record in audited.rounds[:2]] == [2, 1]
        assert all(list(record.participants) == list(SITES) for record in audited.rounds)
        sent: list[Any] = [said for place, said in found.traffic if place == "from hospital-a"]
        words = {said.attempt: said.words for said in sent if hasattr(said, "words") and said.round == 1}
        assert words[1] != words[2], "the same words under two sets would show the difference of the masks"


async def test_with_two_sites_left_the_job_is_suspended_and_the_next_one_answers() -> None:
    async with consortium(SITES) as found:
        _lose(found, "hospital-c", 1)
        _asked(found)
        assert await found.step() is not None
        (ended,) = found.ended()
        assert (ended.reason, ended.suspended, list(ended.sites)) == ("TOO_FEW_SITES", True, ["hospital-c"])
        assert found.study().state == "suspended"
        assert not found.insights()
        assert not found.hub.rooms
        found.lines["hospital-c"].bend_said = lambda _, said: said
        found.start("hospital-c")
        await found.step()
        assert found.study().state == "answered"
        assert [job.number for job in found.study().jobs] == [1, 2]


async def test_a_site_that_drops_out_after_sums_were_opened_is_waited_for() -> None:
    async with consortium(FOUR) as found:
        _lose(found, "hospital-d", 3)
        _asked(found)
        assert await found.step() is not None
        (ended,) = found.ended()
        assert (ended.reason, ended.suspended, list(ended.sites)) == ("SITE_DROPPED", True, ["hospital-d"])
        (audited,) = found.service.all(events.JobAudited)
        assert len(audited.rounds) == 2
        assert not found.insights()
        assert await found.step() is not None, "the others alone would show the numbers of the fourth"
        assert len(found.study().jobs) == 1
        found.lines["hospital-d"].bend_said = lambda _, said: said
        found.start("hospital-d")
        await found.step()
        (insight,) = found.insights()
        assert list(insight.sites) == list(FOUR)


async def test_a_connection_that_breaks_and_comes_back_costs_nothing() -> None:
    async with consortium(SITES) as found:
        broken: list[int] = []

        def bend(kind: str, task: Any) -> Any:
            if kind in ("round", "open", "confirm") and len(broken) < 3:
                job = getattr(task, kind)
                if kind == "confirm" or job.round == 2 + len(broken):
                    broken.append(1)
                    raise aio.AioRpcError(StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata())
            return task

        found.lines["hospital-b"].bend_task = bend
        _asked(found)
        await found.step()
        assert len(broken) == 3
        (insight,) = found.insights()
        beta, _ = pooled([found.hospitals[site].held for site in SITES])
        assert _told(insight) == pytest.approx(beta, abs=1e-10)


async def test_what_comes_twice_counts_once_and_what_comes_late_not_at_all() -> None:
    async with consortium(FOUR) as found:
        outcomes: list[str] = []
        held: list[Any] = []
        _lose(found, "hospital-d", 1)

        async def again(said: Any) -> None:
            outcomes.append(found.api.take(said))

        def bend(method: str, said: Any) -> Any:
            if method == "vector":
                for late in held:
                    asyncio.get_running_loop().create_task(again(late))
                held[:] = [said]
                asyncio.get_running_loop().create_task(again(said))
            return said

        found.lines["hospital-b"].bend_said = bend
        _asked(found)
        await found.step()
        beta, _ = pooled([found.hospitals[site].held for site in SITES])
        assert _told(found.insights()[0]) == pytest.approx(beta, abs=1e-10)
        assert {"DUPLICATE", "OTHER_ATTEMPT", "OTHER_ROUND"} <= set(outcomes)


async def test_a_site_that_was_asked_something_else_ends_the_job() -> None:
    async with consortium(SITES) as found:

        def bend(kind: str, task: Any) -> Any:
            if kind == "round" and task.round.round == 3:
                altered = type(task).FromString(task.SerializeToString())
                altered.round.parameters[-1] += 0.5
                return altered
            return task

        found.lines["hospital-b"].bend_task = bend
        _asked(found)
        await found.step()
        (ended,) = found.ended()
        assert (ended.reason, list(ended.sites)) == ("CONTEXT_DIFFERS", ["hospital-b"])
        assert found.study().state == "failed"
        assert not found.insights()


async def test_an_agent_that_was_restarted_has_lost_its_keys() -> None:
    async with consortium(SITES) as found:
        line = found.lines["hospital-b"]

        async def restart() -> None:
            await found.kill("hospital-b")
            line.bend_task = lambda _, task: task
            found.start("hospital-b")

        def bend(kind: str, task: Any) -> Any:
            if kind == "open" and task.open.round == 2:
                asyncio.get_running_loop().create_task(restart())
                return None
            return task

        line.bend_task = bend
        _asked(found)
        assert await found.step() is not None
        assert [one.reason for one in found.ended()] == ["SITE_RESTARTED"]
        await found.step()
        assert found.study().state == "answered"


async def test_a_coordinator_that_was_restarted_ends_what_nobody_computes() -> None:
    async with consortium(SITES) as found:
        _asked(found)
        found.command(
            "OpenJob", events.JobOpened(study="s1", job="lost", participants=SITES), actor="platform"
        )
        await found.step()
        assert [one.reason for one in found.ended()] == ["COORDINATOR_RESTARTED"]
        assert found.study().state == "answered"


@pytest.mark.parametrize("looks", [1, 3], ids=["at once", "later"])
async def test_a_job_that_comes_faster_than_the_approvals_waits_for_them(looks: int) -> None:
    async with consortium(SITES) as found:
        _asked(found)
        seen, looked = found.seen, [0]

        async def late(study: str) -> SeenStudy:
            looked[0] += 1
            told = await seen(study)
            return told if looked[0] > looks else SeenStudy(study, told.requested, told.approved[:1])

        found.agents_see(late)
        await found.step()
        assert looked[0] > looks
        assert found.study().state == "answered"
        assert not found.ended()


async def test_a_site_whose_topic_tells_of_no_approval_computes_nothing() -> None:
    async with consortium(SITES) as found:
        _asked(found)

        async def never(study: str) -> SeenStudy:
            return SeenStudy(study, (await found.seen(study)).requested)

        found.agents_see(never)
        found.jobs._limits = Limits(10.0, 0.5)
        assert await found.step() is not None
        assert [(one.reason, one.suspended) for one in found.ended()] == [("NOT_APPROVED_HERE", True)]
        assert not found.insights()


async def test_a_study_that_is_stopped_while_it_computes_releases_nothing() -> None:
    async with consortium(SITES) as found:
        _asked(found)

        def bend(kind: str, task: Any) -> Any:
            if kind == "confirm":
                found.command("StopStudy", api.StopStudyRequest(study="s1", reason="enough"), "analyst")
                found.hub.stop("s1", "the study was stopped")
            return task

        found.lines["hospital-a"].bend_task = bend
        assert await found.step() is None
        assert found.study().state == "stopped"
        assert not found.insights()
        assert not found.hub.rooms


# -- cohorts -----------------------------------------------------------------------------


async def test_a_withdrawal_while_the_job_runs_ends_it_and_the_next_waits_for_ten_patients() -> None:
    async with consortium(SITES) as found:
        hospital, all_of_them = found.hospitals["hospital-b"], found.hospitals["hospital-b"].held

        def bend(kind: str, task: Any) -> Any:
            if kind == "confirm":
                hospital.held = without(all_of_them, 1)
            return task

        found.lines["hospital-b"].bend_task = bend
        _asked(found)
        assert await found.step() is not None
        assert await found.step() is not None
        assert [(one.reason, one.suspended) for one in found.ended()] == [
            ("COHORT_CHANGED", True),
            ("COHORT_TOO_CLOSE", True),
        ]
        assert not found.insights()
        hospital.held = without(all_of_them, 10)
        found.lines["hospital-b"].bend_task = lambda _, task: task
        await found.step()
        (insight,) = found.insights()
        beta, _ = pooled([found.hospitals[site].held for site in SITES])
        assert _told(insight) == pytest.approx(beta, abs=1e-10)
        assert insight.members == 890


async def test_another_study_over_nearly_the_same_patients_is_refused_by_the_site() -> None:
    async with consortium(SITES) as found:
        _asked(found)
        await found.step()
        found.hospitals["hospital-a"].held = without(found.hospitals["hospital-a"].held, 1)
        found.request("s2")
        found.approve("s2")
        assert await found.step("s2") is not None
        (ended,) = found.ended()
        assert (ended.reason, ended.study, list(ended.sites)) == ("COHORT_TOO_CLOSE", "s2", ["hospital-a"])
        frozen = {one.site: list(one.refusals) for one in found.service.all(events.CohortFrozen)[-3:]}
        assert frozen["hospital-a"] == ["COHORT_TOO_CLOSE"]
        assert len(found.insights()) == 1


async def test_the_same_patients_at_one_site_less_are_refused() -> None:
    async with consortium(FOUR) as found:
        found.request("s1")
        found.approve("s1")
        await found.step("s1")
        found.request("s2", sites=SITES)
        found.approve("s2", SITES)
        assert await found.step("s2") is not None
        assert [one.reason for one in found.ended()] == ["SITES_TOO_CLOSE"]


@pytest.mark.parametrize(
    ("change", "reason", "state"),
    [
        (lambda columns: columns.update(event=np.eye(1, 300)[0]), "CELL_TOO_SMALL", "suspended"),
        (lambda columns: columns["sex"].__setitem__(0, np.nan), "NOT_FINITE", "failed"),
        (lambda columns: columns["sex"].__setitem__(0, 1e9), "OUT_OF_RANGE", "failed"),
        (lambda columns: columns.pop("sex"), "NO_SUCH_COLUMN", "failed"),
    ],
    ids=["a cell under the threshold", "NaN", "beyond the range", "no such column"],
)
async def test_what_one_site_cannot_answer_is_told_by_its_rule(change: Any, reason: str, state: str) -> None:
    async with consortium(SITES) as found:
        held = found.hospitals["hospital-c"].held
        columns = {name: values.copy() for name, values in held.columns.items()}
        change(columns)
        found.hospitals["hospital-c"].held = CohortData(columns, held.lots, held.members, held.quality)
        _asked(found)
        await found.step()
        (ended,) = found.ended()
        assert (ended.reason, list(ended.sites), found.study().state) == (reason, ["hospital-c"], state)
        assert not found.service.all(events.JobAudited)
        assert not any(
            "words" in type(said).DESCRIPTOR.fields_by_name
            for place, said in found.traffic
            if place == "from hospital-c"
        )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda site, columns: columns["sex"].fill(0.0) if site != "hospital-a" else None,
            "TOO_FEW_SITES_FOR_TERM",
        ),
        (
            lambda site, columns: columns["sex"].__setitem__(slice(None), columns["exposed"]),
            "SINGULAR_INFORMATION",
        ),
    ],
    ids=["a level at one site only", "singular"],
)
async def test_what_the_sums_do_not_carry_ends_the_study(change: Any, reason: str) -> None:
    async with consortium(SITES) as found:
        for site, hospital in found.hospitals.items():
            change(site, hospital.held.columns)
        _asked(found)
        await found.step()
        told = [
            *(one.reason for one in found.ended()),
            *(flag for one in found.insights() for flag in one.flags),
        ]
        assert reason in told


# -- nothing leaks --------------------------------------------------------------------------


@pytest.mark.req("G3a")
async def test_no_unmasked_number_of_a_site_leaves_it(capsys: pytest.CaptureFixture[str]) -> None:
    async with consortium(SITES) as found:
        vectors: dict[str, list[Any]] = {site: [] for site in SITES}
        computed = Session._computed

        def noted(self: Session, frozen: Any, ask: Any, task: Any) -> Any:
            vector, context = computed(self, frozen, ask, task)
            vectors[self._site.name].append((vector, context.layout))
            return vector, context

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Session, "_computed", noted)
            _asked(found)
            await found.step()
        assert found.insights()
        said = b"".join(message.SerializeToString() for _, message in found.traffic)
        said += b"".join(row.value for row in found.service.rows())
        said += repr(found.service.database.docs).encode()
        out, err = capsys.readouterr()
        text = (out + err).encode() + said
        marks = [mark for site in SITES for mark in _marks(vectors[site])]
        assert len(marks) > 100
        own = b"".join(vector.tobytes() for vector, _ in vectors["hospital-a"])
        assert sum(mark in own for mark in marks) > 10, "the scan would find what is there"
        assert not [mark for mark in marks if mark in text]
        members = [one for hospital in found.hospitals.values() for one in hospital.held.members]
        assert not [one for one in members if one in text or one.hex().encode() in text]


def _marks(vectors: list[Any]) -> list[bytes]:
    """How a site's numbers would look if they were sent: as doubles, as text, and in fixed point unmasked."""
    marks = []
    for vector, layout in vectors:
        words = layout.encode(vector)
        for number, word in zip(vector, words, strict=True):
            if number != round(number):
                marks += [np.float64(number).tobytes(), repr(float(number)).encode(), word.tobytes()]
    return marks


# -- what stands in nobody's power ---------------------------------------------------


async def test_an_answer_is_never_released_without_what_its_sites_contributed() -> None:
    """A coordinator that dies with its first word after the release has said all of it."""
    async with consortium(SITES) as found:
        command = found.command
        released: list[str] = []

        def once(method: str, asked: Any, actor: str) -> Any:
            if released:
                raise asyncio.CancelledError
            if method == "PublishInsight":
                released.append(method)
            return command(method, asked, actor)

        _asked(found)
        found.command = once  # type: ignore[method-assign]
        await found.step()
        assert released
        (insight,) = found.insights()
        metered = found.service.all(events.ContributionMetered)
        assert sorted(one.site for one in metered) == sorted(insight.sites) == sorted(SITES)


async def test_a_site_whose_own_records_do_not_answer_costs_a_job_and_not_the_study() -> None:
    async with consortium(SITES) as found:
        kept, opened = found.kept["hospital-b"], found.kept["hospital-b"].opened

        async def away() -> Any:
            kept.opened = opened  # type: ignore[method-assign]
            raise Retryable("the database does not answer")

        kept.opened = away  # type: ignore[method-assign]
        _asked(found)
        await found.step()
        (ended,) = found.ended()
        assert (ended.reason, ended.suspended) == ("SITE_UNAVAILABLE", True)
        await found.step()
        assert found.study().state == "answered"
