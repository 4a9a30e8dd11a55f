"""How long the simulated people rest between two looks, by a clock that the test turns."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops_events
from pharmaloop.loops.v1 import service_pb2 as loops
from services.world.actors import notices
from services.world.actors.desk import Desk
from services.world.timing import rest
from tests.unit.world.support import Recorder

ROOT = "maker-1/item/granulate/G-0041"


class EnoughError(Exception):
    """The test has seen what it wanted."""


class Hands:
    """Stands for the clock and the sleep of whoever rests: sleeping turns it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 1_000.0
        clock = SimpleNamespace(monotonic=lambda: self.seconds)
        monkeypatch.setattr("services.world.timing.time", clock)
        monkeypatch.setattr("services.world.timing.asyncio", SimpleNamespace(sleep=self._sleep))
        monkeypatch.setattr(notices, "time", clock)

    async def _sleep(self, seconds: float) -> None:
        self.seconds += seconds


async def test_after_an_outage_the_notice_desk_asks_again_soon(
    desk_for: Callable[[str], Desk], recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands, asked = Hands(monkeypatch), list[float]()
    run = loops.Run(run="run-1", opened=loops_events.SafetyRunOpened(run="run-1", lot=ROOT))
    recorder.answers["ListRuns"] = lambda request: loops.ListRunsResponse(runs=[run])

    def away_at_first(request: Any) -> clinical.ListNoticesResponse:
        """The first call is repeated for 100 s, until the hospital is back."""
        asked.append(hands.seconds)
        if len(asked) == 1:
            hands.seconds += 100.0
        if len(asked) == 5:
            raise EnoughError
        return clinical.ListNoticesResponse()

    recorder.answers["ListNotices"] = away_at_first
    with pytest.raises(EnoughError):
        await notices.NoticeDesk(desk_for("notices"), "hospital-b", set(), [ROOT]).run()
    first, *others = [late - early for early, late in itertools.pairwise(asked)]
    assert first <= 100.0 + 30.0, "it rested in proportion to the outage"
    assert others == [notices.LOOK_SECONDS] * 3


async def test_who_reads_long_lists_rests_four_times_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = Hands(monkeypatch)
    hands.seconds += 3.0
    await rest(1_000.0, 1.0)
    assert hands.seconds == 1_000.0 + 3.0 + 12.0
