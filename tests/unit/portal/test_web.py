"""Between a browser and the pages: forms of other sites, foreign text, errors, services that are away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from grpc import aio

from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.loops.v1 import service_pb2_grpc as loops_grpc
from services.portal.backend import Backend
from services.portal.live import Hub
from services.portal.pages import runs
from services.portal.render import page
from services.portal.settings import PortalSettings
from services.portal.web import make_app

_NASTY = "<script>alert(1)</script> \u202eمرحبا 🧪 " + "x" * 200


class Loops(loops_grpc.LoopsServiceServicer):
    """A service of loops that has the runs it is given, and counts what it is asked."""

    def __init__(self) -> None:
        self.runs: list[loops.Run] = []
        self.asked = 0
        self.slow = 0.0

    async def ListRuns(self, request: loops.ListRunsRequest, context: Any) -> loops.ListRunsResponse:
        self.asked += 1
        await asyncio.sleep(self.slow)
        return loops.ListRunsResponse(runs=self.runs)

    async def GetRun(self, request: loops.GetRunRequest, context: Any) -> loops.GetRunResponse:
        await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no run {request.run!r}")
        raise AssertionError


@pytest.fixture
async def service() -> AsyncIterator[tuple[Loops, str]]:
    server, servicer = aio.server(), Loops()  # type: ignore[abstract]
    loops_grpc.add_LoopsServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, f"127.0.0.1:{port}"
    await server.stop(0)


@pytest.fixture
def answer_seconds() -> float:
    """How long a page waits for a service: longer than any machine is too busy to let the call through."""
    return 60.0


@pytest.fixture
async def browser(service: tuple[Loops, str], answer_seconds: float) -> AsyncIterator[httpx.AsyncClient]:
    """A browser before a portal; the service answers, nobody else is there."""
    # Answers are shared for as long as any machine needs to draw two hundred pages, however loaded it is.
    settings = PortalSettings(answer_seconds=answer_seconds, share_seconds=60.0)
    endpoints = {"loops": service[1], "alerting": "127.0.0.1:1"}
    app = make_app(endpoints, settings)
    app.state.backend = Backend(endpoints, settings)
    app.state.hub = Hub(app.state.backend)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://portal") as client:
        client.headers["accept-language"] = "en"
        yield client
    await app.state.backend.close()


async def test_what_people_wrote_is_shown_as_text(
    browser: httpx.AsyncClient, service: tuple[Loops, str]
) -> None:
    service[0].runs = [loops.Run(run=_NASTY, loop=_NASTY, case=_NASTY, stage=_NASTY, waiting_for=_NASTY)]
    text = (await browser.get("/runs")).text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; \u202eمرحبا 🧪" in text


async def test_no_page_runs_what_is_not_ours(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/runs")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in answer.text
    assert " style=" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://evil.example"}],
)
async def test_a_form_of_another_site_decides_nothing(
    browser: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await browser.post("/me", data={"name": "ann"}, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


async def test_a_form_of_ours_is_taken_and_leads_back(browser: httpx.AsyncClient) -> None:
    answer = await browser.post(
        "/me", data={"name": " 王芳 ", "to": "/runs"}, headers={"origin": "http://portal"}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs")
    assert ">王芳</a>" in (await browser.get("/runs")).text


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example"])
async def test_nothing_leads_out(browser: httpx.AsyncClient, to: str) -> None:
    for form in ({"name": "ann", "to": to}, {"language": "en", "to": to}):
        answer = await browser.post("/me" if "name" in form else "/language", data=form)
        assert answer.headers["location"] == "/"


async def test_a_name_that_is_none_is_asked_for_again(browser: httpx.AsyncClient) -> None:
    for name in ("", "   ", "x" * 201):
        answer = await browser.post("/me", data={"name": name})
        assert answer.status_code == 422
        assert "1 to 200 characters" in answer.text


async def test_a_thing_that_is_not_there_is_told_and_leads_on(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/runs/7")
    assert answer.status_code == 404
    assert "there is no run &#39;7&#39;" in answer.text
    assert (await browser.get("/nowhere")).status_code == 404


@pytest.mark.parametrize("answer_seconds", [2.0])
async def test_a_service_that_is_away_is_named_and_the_page_stands(
    browser: httpx.AsyncClient, service: tuple[Loops, str]
) -> None:
    service[0].slow = 5.0
    answer = await browser.get("/runs")
    assert answer.status_code == 200
    assert 'data-service="loops"' in answer.text


async def test_two_hundred_who_look_at_the_same_ask_once(
    browser: httpx.AsyncClient, service: tuple[Loops, str]
) -> None:
    service[0].slow = 0.05
    answers = await asyncio.gather(*(browser.get("/runs") for _ in range(200)))
    assert {answer.status_code for answer in answers} == {200}
    assert service[0].asked == 1


async def test_open_pages_that_look_again_share_the_page_whoever_looks(
    browser: httpx.AsyncClient, service: tuple[Loops, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counted(*given: Any, **named: Any) -> Any:
        made.append(given)
        return page(*given, **named)

    monkeypatch.setattr(runs, "page", counted)
    service[0].slow = 0.05
    service[0].runs = [loops.Run(run="run-1", loop="safety", case="lot")]
    names = [{"cookie": f"actor=person{n}", "x-look": "1"} for n in range(200)]
    answers = await asyncio.gather(*(browser.get("/runs", headers=name) for name in names))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert "run-1" in answers[0].text
    assert "person" not in answers[0].text
    assert len(made) == 1
    chinese = await browser.get("/runs", headers={"x-look": "1", "accept-language": "zh"})
    assert 'lang="zh-Hans-CN"' in chinese.text


async def test_one_who_leaves_takes_nobodys_answer_along(
    service: tuple[Loops, str], answer_seconds: float
) -> None:
    service[0].slow = 0.1
    backend = Backend({"loops": service[1]}, PortalSettings(answer_seconds=answer_seconds))
    first = asyncio.create_task(backend.ask("loops", "ListRuns"))
    second = asyncio.create_task(backend.ask("loops", "ListRuns"))
    await asyncio.sleep(0.02)
    first.cancel()
    assert list((await second).runs) == []
    await backend.close()


async def test_pages_are_told_in_the_language_that_the_browser_accepts(browser: httpx.AsyncClient) -> None:
    assert 'lang="en"' in (await browser.get("/runs")).text
    chinese = await browser.get("/runs", headers={"accept-language": "zh-CN"})
    assert 'lang="zh-Hans-CN"' in chinese.text
    await browser.post("/language", data={"language": "zh", "to": "/runs"})
    assert 'lang="zh-Hans-CN"' in (await browser.get("/runs")).text


async def test_files_may_be_kept_for_good_and_pages_not(browser: httpx.AsyncClient) -> None:
    page = await browser.get("/runs")
    assert page.headers["cache-control"] == "no-store"
    file = page.text.partition('rel="stylesheet" href="')[2].partition('"')[0]
    assert "immutable" in (await browser.get(file)).headers["cache-control"]


async def test_the_hospital_called_clinical_alone_is_the_installations_first() -> None:
    backend = Backend({"clinical": "h:1", "clinical.hospital-b": "h:2"}, PortalSettings(), "st-mary")
    assert backend.sites == {"hospital-b": "clinical.hospital-b", "st-mary": "clinical"}
    await backend.close()
