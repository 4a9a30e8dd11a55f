"""Pages are measured by the template of their address, and by nothing that somebody looked at."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from services.kit.metrics import PAGE_SECONDS, Metrics
from services.portal.backend import Missing
from services.portal.looks import HEADER
from services.portal.measured import Measured
from services.portal.settings import PortalSettings
from services.portal.web import make_app
from tests.unit.portal.fakes import FakeBackend, refused


def _counted(metrics: Metrics) -> Counter[tuple[str, str]]:
    """Answers by page and outcome."""
    return Counter(
        {
            (sample.labels["page"], sample.labels["outcome"]): int(sample.value)
            for family in metrics.registry.collect()
            for sample in family.samples
            if sample.name == f"{PAGE_SECONDS.name}_count"
        }
    )


def _portal(backend: FakeBackend) -> tuple[httpx.AsyncClient, Metrics]:
    metrics = Metrics("portal")
    app = make_app({}, PortalSettings(share_seconds=30.0), metrics)
    app.state.backend = backend
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://portal"), metrics


async def test_an_answer_is_counted_by_its_page_and_what_became_of_it() -> None:
    backend = FakeBackend(
        {
            ("loops", "GetRun"): lambda run: (_ for _ in ()).throw(refused(text=f"no run {run}")),
        }
    )
    browser, metrics = _portal(backend)
    for run in ("run-1", "run-2", "Mrs. Miller"):
        assert (await browser.get(f"/runs/{run}")).status_code == 404
    assert (await browser.get("/status")).status_code == 200
    assert (await browser.get("/static/portal.css")).status_code == 200
    assert (await browser.get("/wp-login.php")).status_code == 404
    assert (await browser.get("/%2e%2e/etc/passwd")).status_code == 404
    await browser.get("/healthz")
    counted = _counted(metrics)
    assert counted[("/runs/{run}", "refused")] == 3
    assert counted[("/status", "done")] == 1
    assert counted[("/static", "done")] == 1
    assert counted[("none", "refused")] == 2
    assert not any("Miller" in page or "run-1" in page or page == "/healthz" for page, _ in counted)


async def test_a_failure_is_the_portals_or_that_of_what_it_asks() -> None:
    browser, metrics = _portal(FakeBackend({("loops", "GetRun"): Missing("loops", "away")}))
    assert (await browser.get("/runs/run-1")).status_code == 503
    assert _counted(metrics) == {("/runs/{run}", "failed"): 1}

    async def broken(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("a fault of ours")

    scope: dict[str, Any] = {"type": "http", "path": "/x", "route": SimpleNamespace(path="/{thing}")}
    with pytest.raises(RuntimeError):
        await Measured(broken, metrics)(scope, None, None)  # type: ignore[arg-type]
    assert _counted(metrics)[("/{thing}", "failed")] == 1


async def test_a_shared_look_counts_for_each_who_looked() -> None:
    browser, metrics = _portal(FakeBackend())
    for _ in range(3):
        assert (await browser.get("/status", headers={HEADER: "1"})).status_code == 200
    assert _counted(metrics) == {("/status", "done"): 3}
