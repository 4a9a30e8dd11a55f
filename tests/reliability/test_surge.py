"""Ten times the usual input: nothing is lost, a safety case ends all the same, and the lag goes back.

`make faults T="tests/reliability/test_surge.py -s"` surges for two minutes, with `SURGE=600` for ten, and
prints what it measures; of time it asserts only that the lag is back within a bound, and that the case ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.reliability.invariants import Facts, broken
from tests.reliability.observe import Observer, Seen
from tests.reliability.surge import DISPENSES, PATIENTS, Client, Feed, Lag, Metered, Round, Sample, Timed
from tests.reliability.workload import CONSENTING, OTHERS, furnish
from tests.reliability.world import until

SURGE_SECONDS = float(os.environ.get("SURGE", "120"))
#: Rounds a second of one plant, pharmacy and hospital; what they are in inputs is measured. Then ten times
#: as many.
USUAL, TIMES = 1.0, 10
WARM_SECONDS, USUAL_SECONDS = 10.0, 40.0
#: One at the usual rate, one in the surge.
CASES = 2
#: The second is opened so long after the surge began.
CASE_AFTER = 20.0
#: The lag is back when it was no larger for so long than it ever was at the usual rate.
CALM_SECONDS = 10.0
#: It has to be so within this many seconds after the surge.
BACK_SECONDS = 300.0
#: What a client may see beside its answer: an overloaded platform may send it away, for a while.
ALLOWED = {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900 + 4 * SURGE_SECONDS)]


class Platform:
    """A platform under a feed, with somebody who notes its lag and somebody who plays cases."""

    def __init__(self, folder: Path) -> None:
        self.world = Metered(folder / "world", folder / "keys")

    def start(self) -> None:
        self.world.start()
        self.caller = Client(self.world)
        furnish(self.caller)
        self.feed, self.lag = Feed(self.world), Lag(self.world)
        self.lag.start()
        self.feed.start(USUAL)
        time.sleep(WARM_SECONDS)

    def stop(self) -> None:
        if hasattr(self, "feed"):
            self.lag.end()
            self.feed.close()
            self._tell_course()
        self.world.stop()

    def _tell_course(self) -> None:
        """The lag every ten seconds, for whoever has to understand a failure."""
        samples = self.lag.samples
        print("seconds: records behind, seconds behind, rows in the outboxes")
        for one in samples[::5]:
            print(f"{one.at - samples[0].at:.0f}: {one.records:.0f}, {one.seconds:.1f}, {one.waiting:.0f}")
        print("\n".join(self.world.complaints(4)))

    def usual(self) -> tuple[float, float, Timed]:
        """A case at the usual rate: when that began and ended, and the case."""
        since, case = time.monotonic(), Timed(1)
        case.play(self.caller)
        time.sleep(max(0.0, since + USUAL_SECONDS - time.monotonic()))
        return since, time.monotonic(), case

    def surge(self, case: Timed) -> tuple[float, float]:
        """Ten times as many rounds, the case in the middle of them; gives begin and end."""
        since = time.monotonic()
        self.feed.pace = USUAL * TIMES
        with ThreadPoolExecutor(1, "case") as beside:
            time.sleep(CASE_AFTER)
            plays = beside.submit(case.play, self.caller)
            time.sleep(max(0.0, since + SURGE_SECONDS - time.monotonic()))
            self.feed.pace, over = USUAL, time.monotonic()
            plays.result(case.patience)
        return since, over

    def wait_for(self, normal: Sample, since: float) -> float:
        """Seconds until the lag was that of before, while the usual input goes on."""

        def back() -> bool:
            self.feed.check()
            return self.lag.back(since, normal, CALM_SECONDS) is not None

        # It may have come back long ago, while the case went on; then that is found at once.
        left = max(30.0, since + BACK_SECONDS + CALM_SECONDS - time.monotonic())
        until(f"nobody is further behind than before ({normal})", back, left, pause=1.0)
        at = self.lag.back(since, normal, CALM_SECONDS)
        assert at is not None
        assert at - since <= BACK_SECONDS
        return at - since

    def judge(self) -> None:
        """At rest: every input has its effect once, none is lost, nothing is a dead letter, nobody died."""
        self.feed.end()
        observer = Observer(self.world)
        observer.wait_for_rest(300)
        seen = observer.look()
        assert not seen.letters
        assert not self.world.deaths
        acknowledged = [*self.feed.acknowledged(), *self.caller.journal.acknowledged]
        wrong = broken(Facts(seen.databases, seen.events, seen.ends, observer.marks(), acknowledged))
        assert not wrong, "\n".join(wrong[:40])
        self._effects(seen)
        failed = self.feed.failed() + self.caller.journal.failed
        calls = self.feed.calls() + self.caller.journal.calls
        print(f"{len(acknowledged)} requests acknowledged, {calls} calls, not answered: {dict(failed)}")
        print(f"{len(seen.events)} events in the log")
        assert {status for _, status in failed} <= ALLOWED, failed

    def _effects(self, seen: Seen) -> None:
        """The feed has left exactly what its rounds are: nothing twice under another name."""
        rounds = [Round(done.number) for done in self.feed.done]
        lots = {doc["_id"]: doc["v"] for doc in seen.databases["production"]["lot"]}
        assert {id: v for id, v in lots.items() if id.startswith(Round.TABLETS)} == {
            one.tablets: Round.VERSIONS for one in rounds
        }
        for place, per_round, per_case in (
            (("clinical", "patient"), PATIENTS, CONSENTING + OTHERS),
            (("clinical", "dispense"), DISPENSES, CONSENTING + OTHERS),
            (("traceability", "dispense"), DISPENSES, CONSENTING + OTHERS),
        ):
            found = len(seen.databases[place[0]][place[1]])
            assert found == len(rounds) * per_round + CASES * per_case, place


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    made = Platform(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def _told(name: str, most: Sample, rate: float) -> None:
    print(
        f"{name}: {rate:.0f} inputs a second; furthest behind {most.records:.0f} records ({most.runner}), "
        f"{most.seconds:.1f} s ({most.group}), {most.waiting:.0f} rows in the outboxes"
    )


def _memory(name: str, one: Sample) -> None:
    told = ", ".join(f"{process} {mb:.0f}" for process, mb in sorted(one.memory.items()))
    print(f"memory {name}, MB: {told}")


@pytest.mark.req("A5")
def test_ten_times_the_input_loses_nothing_and_the_lag_goes_back(platform: Platform) -> None:
    feed, lag = platform.feed, platform.lag
    began, ended, before = platform.usual()
    normal = lag.largest(began, ended)
    _told("usual", normal, feed.rate(began, ended))
    print(f"a case then: {before}")
    _memory("before", lag.samples[-1])

    case, sent = Timed(2), feed.sent
    since, over = platform.surge(case)
    rounds = feed.sent - sent
    _told("surge", lag.largest(since, over), feed.rate(since, over))
    print(f"{rounds} rounds came since it began")
    print(f"a case in it: {case}; it was opened {case.at['opened'] - since:.0f} s after the surge began")

    took = platform.wait_for(normal, over)
    most = lag.largest(since, float("inf"))
    print(
        f"the largest since: {most.records:.0f} records ({most.runner}), {most.seconds:.1f} s ({most.group})"
    )
    print(f"the lag was back {took:.0f} s after the surge, which was {over - since:.0f} s long")
    _memory("after", lag.samples[-1])
    platform.judge()
