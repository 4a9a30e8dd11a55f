"""A page of a simulated world says so; one of a platform that goes with the calendar does not."""

from __future__ import annotations

import asyncio
import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pypdf import PdfReader

from pharmaloop.common.v1 import service_pb2 as common
from pharmaloop.traceability.v1 import dossier_pb2
from services.portal.backend import Backend, Missing
from services.portal.clock import World
from services.portal.languages import Language
from services.portal.papers.dossier import Taken, dossier_paper
from services.portal.render import STATIC
from tests.unit.portal.fakes import Browser, FakeBackend

SAID = {
    "en": "Simulated world: its clock does not go with the calendar.",
    "zh": "模拟环境：平台时钟与日历时间不一致。",
}


def backend(ahead: float, process: str = "loops") -> Backend:
    at = Timestamp()
    at.FromDatetime(datetime.now(UTC) + timedelta(seconds=ahead))
    told: Any = {(process, "GetStatus"): common.GetStatusResponse(platform_time=at)}
    return cast("Backend", FakeBackend(told))


@pytest.mark.parametrize(
    ("ahead", "simulated"), [(0.0, False), (-30.0, False), (30.0, False), (86_400.0, True), (-86_400.0, True)]
)
def test_a_clock_that_is_not_the_walls_is_a_simulated_worlds(ahead: float, simulated: bool) -> None:
    world = World()
    assert asyncio.run(world.look(backend(ahead)))
    assert world.simulated == simulated


def test_any_service_may_tell_the_time_and_silence_changes_nothing() -> None:
    world = World()
    assert asyncio.run(world.look(backend(86_400.0, "alerting")))
    away: Any = {("loops", "GetStatus"): Missing("loops", "away")}
    assert not asyncio.run(world.look(cast("Backend", FakeBackend(away))))
    assert world.simulated


@pytest.mark.parametrize("code", ["en", "zh"])
@pytest.mark.parametrize("address", ["/alerts", "/me", "/lineage", "/nowhere"])
def test_every_page_of_a_simulated_world_says_so(code: str, address: str) -> None:
    assert SAID[code] in Browser(FakeBackend(), code, simulated=True).get(address).text
    assert SAID[code] not in Browser(FakeBackend(), code).get(address).text


def test_print_keeps_it() -> None:
    hidden = re.findall(r"@media print \{([^@]*?)\} \}", (STATIC / "portal.css").read_text())
    assert hidden
    assert not any(".world" in rules for rules in hidden)
    text = Browser(FakeBackend(), simulated=True).get("/me").text
    assert text.index('<aside class="world">') > text.index("</main>")
    assert text.index('<aside class="world">') < text.index("<footer>")


@pytest.mark.parametrize("code", ["en", "zh"])
@pytest.mark.parametrize(("days", "simulated"), [(0, False), (40, True)])
def test_the_dossier_on_paper_says_so(code: str, days: int, simulated: bool) -> None:
    made = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    taken = Taken(
        key="m/item/x/1",
        lot=None,
        dossier=dossier_pb2.LotDossier(lot="m/item/x/1"),
        exposures={},
        digest="f" * 64,
        made=made,
        now=made + timedelta(days=days),
    )
    pages = PdfReader(io.BytesIO(dossier_paper(taken, Language(code)))).pages
    text = re.sub(r"\s", "", "".join(page.extract_text() for page in pages))
    assert (re.sub(r"\s", "", SAID[code]) in text) == simulated
