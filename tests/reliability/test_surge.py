"""Ten times the normal input for two minutes: nothing that was acknowledged is lost, and the lag goes again.

`make faults T=tests/reliability/test_surge.py`; `SURGE_MINUTES=10` makes the surge last as long.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.reliability.invariants import Facts, broken
from tests.reliability.observe import Observer
from tests.reliability.surge import Pace, Source, furnish_surge, sources
from tests.reliability.workload import Acknowledged, Caller, Case, furnish
from tests.reliability.world import World, until

MINUTES, TIMES = float(os.environ.get("SURGE_MINUTES", "2")), 10
pytestmark = [pytest.mark.faults, pytest.mark.timeout(900 + 180 * MINUTES)]
#: How long it goes at the normal pace before; how long the lag may take to be normal again; how many looks
#: in a row say that it is.
NORMAL_SECONDS, BACK_SECONDS, LOOKS = 30.0, 60.0 * max(4.0, 2 * MINUTES), 3


@dataclass
class Lag:
    """Looks once a second at how many records, and events of outboxes, wait to be folded or published."""

    observer: Observer
    ended: threading.Event
    seen: list[tuple[float, int]] = field(default_factory=list)

    def run(self) -> None:
        while not self.ended.wait(1.0):
            at = time.monotonic()
            self.seen.append((at, self.observer.waiting()))

    def since(self, moment: float) -> list[int]:
        return [waiting for at, waiting in self.seen if at >= moment]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world", tmp_path / "keys", {"production": ("api", "worker", "relay")})
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_ten_times_the_input_loses_nothing_and_the_lag_goes_again(world: World) -> None:
    caller = Caller(world, seconds=30)
    furnish(caller)
    furnish_surge(caller)
    pace, lag = Pace(), Lag(Observer(world), threading.Event())
    senders = sources(lambda: Caller(world, seconds=30))
    with ThreadPoolExecutor(len(senders) + 2) as beside:
        running = [beside.submit(source.run, pace) for source in senders]
        watching = beside.submit(lag.run)
        try:
            said = _surge(pace, lag, senders, lambda: Case(1).play(caller), beside)
        finally:
            pace.ended.set()
            lag.ended.set()
        for one in (*running, watching):
            one.result(120)
    print("\n".join(said))
    failed = sum((source.caller.journal.failed for source in senders), Counter(caller.journal.failed))
    done = [*caller.journal.acknowledged]
    for source in senders:
        done += source.caller.journal.acknowledged
    print(f"{_inputs(done)} facts and {len(done)} calls acknowledged; not answered: {dict(failed)}")
    _judge(world, done)


def _surge(
    pace: Pace, lag: Lag, senders: list[Source], play: Callable[[], None], beside: ThreadPoolExecutor
) -> list[str]:
    """The normal pace, the surge with a case of the safety loop beside it, the normal pace again until the
    lag is what it was; what was seen, in words."""
    begun = time.monotonic()
    time.sleep(NORMAL_SECONDS)
    normal = lag.since(begun + NORMAL_SECONDS / 3)
    pace.times, surged = TIMES, time.monotonic()
    before = {source.name: source.sent for source in senders}
    case = beside.submit(_timed, play)
    time.sleep(60 * MINUTES)
    pace.times, over = 1, time.monotonic()
    took = {source.name: (source.sent - before[source.name]) / (over - surged) for source in senders}
    owed = {source.name: round(source.owed) for source in senders}
    high = lag.since(surged)

    def is_back() -> bool:
        after = lag.since(over)[-LOOKS:]
        return len(after) == LOOKS and max(after) <= max(normal)

    until(f"the lag is back at {max(normal)} records: {high[-5:]}", is_back, BACK_SECONDS, pause=0.5)
    back = time.monotonic() - over
    return [
        f"a case beside it took {case.result(300):.0f} s",
        f"normal lag: median {statistics.median(normal):.0f}, most {max(normal)} records",
        f"surge of {over - surged:.0f} s: " + ", ".join(f"{name} x{took[name]:.1f}" for name in took),
        f"owed at its end, in normal seconds: {owed}",
        f"lag: median {statistics.median(high):.0f}, most {max(high)} records; back after {back:.0f} s",
    ]


def _timed(play: Callable[[], None]) -> float:
    """How many seconds it took."""
    begun = time.monotonic()
    play()
    return time.monotonic() - begun


def _inputs(done: list[Acknowledged]) -> int:
    return sum(one.facts for one in done)


def _judge(world: World, done: list[Acknowledged]) -> None:
    observer = Observer(world)
    observer.wait_for_rest(BACK_SECONDS)
    seen = observer.look()
    assert not seen.letters
    wrong = broken(Facts(seen.databases, seen.events, seen.ends, observer.marks(), done))
    assert not wrong, "\n".join(wrong[:40])
