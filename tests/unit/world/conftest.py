"""One world for all tests of the world, and desks at a recorder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from services.world.actors.desk import Desk
from services.world.dryer_runs import sample_counts
from services.world.platform_api import Platform
from services.world.progress import Progress
from services.world.records import World
from services.world.sizes import SMALL, WS
from services.world.worldgen import generate
from services.world.worldgen.cdisc import Pilot, read_pilot
from tests.unit.world.support import ANCHOR, CLOCK, Recorder


@pytest.fixture(scope="session")
def pilot() -> Pilot:
    return read_pilot()


@pytest.fixture(scope="session")
def world(pilot: Pilot) -> World:
    return generate(7, ANCHOR, pilot, sample_counts(), SMALL)


@pytest.fixture(scope="session")
def whole(pilot: Pilot) -> World:
    return generate(7, ANCHOR, pilot, sample_counts(), WS)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def desk_for(recorder: Recorder, tmp_path: Path) -> Callable[[str], Desk]:
    """Makes desks that share a recorder and one progress file."""
    progress = Progress(tmp_path, 7, "small", ANCHOR)

    def make(actor: str) -> Desk:
        return Desk(actor, 7, cast(Platform, recorder), CLOCK, progress, lambda text: None)

    return make


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between two looks."""
    for module in (
        "patients",
        "quality",
        "charts",
        "pharmacy",
        "pharmacist",
        "observer",
        "laboratory",
        "blood",
        "notices",
        "scientists",
        "plant_manager",
        "analyst",
    ):
        monkeypatch.setattr(f"services.world.actors.{module}.LOOK_SECONDS", 0.001)
