"""The call in which a site works: what gets lost on the way, and who is heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode, aio

from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.coordinator.conductor import Limits
from services.kit.errors import Rejected
from tests.unit.exchange.consortium import Consortium, consortium
from tests.unit.exchange.hospitals import SITES

FOUR = (*SITES, "hospital-d")


def _asked(found: Consortium) -> None:
    found.request()
    found.approve()


@pytest.mark.parametrize("place", ["begin", "round"])
async def test_a_call_that_ends_before_any_sum_costs_nothing_if_the_next_follows_soon(place: str) -> None:
    """The first round would go on without a site that is gone."""
    async with consortium(SITES) as found:
        found.hub._grace = 0.5
        broken: list[str] = []

        def bend(kind: str, task: Any) -> Any:
            if kind == place and not broken:
                broken.append(kind)
                raise aio.AioRpcError(StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata())
            return task

        found.lines["hospital-b"].bend_task = bend
        _asked(found)
        await found.step()
        assert broken
        assert found.study().state == "answered"
        assert not found.ended()


async def test_a_confirmation_that_got_lost_is_signed_anew() -> None:
    async with consortium(SITES) as found:
        said: list[bytes] = []

        def bend(method: str, one: Any) -> Any:
            if method == "ConfirmCohort":
                said.append(one.nonce)
                if len(said) == 1:
                    raise aio.AioRpcError(StatusCode.DEADLINE_EXCEEDED, aio.Metadata(), aio.Metadata())
            return one

        found.lines["hospital-b"].bend_said = bend
        _asked(found)
        await found.step()
        assert len(said) == 2
        assert said[0] == said[1] != b""
        assert found.study().state == "answered"
        assert not found.ended()


async def test_a_confirmation_of_before_does_not_count_as_a_new_one() -> None:
    async with consortium(SITES) as found:
        said: list[Any] = []
        outcomes: list[str] = []

        def bend(method: str, one: Any) -> Any:
            if method == "ConfirmCohort":
                said.append(one)
            return one

        found.lines["hospital-b"].bend_said = bend

        def later(kind: str, task: Any) -> Any:
            if kind == "over":
                return task
            if kind == "confirm":
                room = found.hub.rooms[task.confirm.job]
                outcomes.extend(found.said_again(room, one) for one in said)
            return task

        found.lines["hospital-a"].bend_task = later
        found.jobs._limits = Limits(2.0, 0.5, 0.0)  # every word is old when it comes: all are asked again
        _asked(found)
        await found.step()
        assert len({one.nonce for one in said}) > 1
        assert set(outcomes) == {"OTHER_CONFIRMATION"}


async def test_a_refusal_that_got_lost_is_told_again() -> None:
    async with consortium(FOUR) as found:
        lost: list[str] = []

        def lose(method: str, said: Any) -> Any:
            if method == "DeclineTask" and not lost:
                lost.append(said.refusal.reason)
                raise aio.AioRpcError(StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata())
            return said

        def spoil(kind: str, task: Any) -> Any:
            if kind == "round":
                task.round.phase = "fit"
            return task

        found.lines["hospital-d"].bend_said, found.lines["hospital-d"].bend_task = lose, spoil
        found.jobs._limits = Limits(5.0, 5.0)
        _asked(found)
        await found.step()
        assert lost == ["PHASE_OUT_OF_TURN"]
        assert list(found.insights()[0].sites) == list(SITES)


async def _hello(*sites: str) -> AsyncIterator[api.WorkRequest]:
    for site in sites:
        yield api.WorkRequest(hello=api.Hello(site=site))
    await asyncio.sleep(60)


@pytest.mark.parametrize(("sites", "reason"), [(("",), "REQUIRED"), (("nowhere",), "UNKNOWN_SITE")])
async def test_a_call_says_first_of_which_site_it_is(sites: tuple[str, ...], reason: str) -> None:
    async with consortium(SITES) as found:
        with pytest.raises(Rejected, match=reason):
            await anext(aiter(found.call(_hello(*sites))))


async def test_the_newest_call_of_a_site_is_the_one_that_counts() -> None:
    async with consortium(SITES) as found:
        second = aiter(found.call(_hello("hospital-b")))
        assert (await anext(second)).welcome.site == "hospital-b"
        third = aiter(found.call(_hello("hospital-b")))
        assert (await anext(third)).welcome.site == "hospital-b"
        with pytest.raises(StopAsyncIteration):
            await anext(second)
        assert "hospital-b" in found.hub.connected(SITES)
        await third.aclose()  # type: ignore[attr-defined]


async def test_a_call_in_which_a_site_says_no_more_ends() -> None:
    async def said() -> AsyncIterator[api.WorkRequest]:
        yield api.WorkRequest(hello=api.Hello(site="hospital-b"))

    async def heard() -> list[str]:
        return [task.WhichOneof("task") or "" async for task in found.call(said())]

    async with consortium(SITES) as found:
        await found.kill("hospital-b")
        call = asyncio.ensure_future(heard())
        async with asyncio.timeout(5):
            await asyncio.wait({call})
        assert call.cancelled()
        assert "hospital-b" not in found.hub.connected(SITES)


async def test_what_the_exchange_fails_at_ends_the_job_and_not_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with consortium(FOUR) as found:
        take = found.api.take

        def fails(said: Any) -> str:
            if isinstance(said, api.RoundVector) and said.statement.site == "hospital-d":
                raise KeyError("broken")
            return take(said)

        monkeypatch.setattr(found.api, "take", fails)
        _asked(found)
        await found.step()
        assert list(found.insights()[0].sites) == list(SITES)
        assert "hospital-d" in found.hub.connected(FOUR)


async def test_a_cohort_beyond_what_a_site_can_remember_is_not_summed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.exchange.site.session.MOST_MEMBERS", 299)
    async with consortium(SITES) as found:
        _asked(found)
        await found.step()
        assert {one.reason for one in found.ended()} == {"COHORT_TOO_LARGE"}
        assert not found.insights()


async def test_a_vector_that_no_message_holds_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.exchange.site.agent._MOST_BYTES", 300)
    async with consortium(SITES) as found:
        _asked(found)
        await found.step()
        assert {one.reason for one in found.ended()} <= {"VECTOR_TOO_LARGE", "TOO_FEW_SITES"}
        assert found.ended()
        assert not found.insights()
