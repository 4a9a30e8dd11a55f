"""Proof by simulation: whatever strikes, every input has one effect, and the platform tells the truth.

Each seed is a world of its own: a story, and a weather of crashes, delays,
repeats, conflicts and lost leases. `make sim SEED=n` shows one of them.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.reliability.sim.bugs import PLANTED
from tests.reliability.sim.faults import LIKELY, RARE
from tests.reliability.sim.verdict import Verdict, caught, judged, workers

pytestmark = pytest.mark.timeout(600)
#: Seeds that every change is tried with, and those of the long faults; `make sim-night` has the rest.
_SEEDS = 10
_LONG = 400
_CHUNK = 10
_ENOUGH = 40
_FEW = 6


@pytest.fixture(scope="module")
def aside() -> Iterator[ProcessPoolExecutor]:
    """One process beside the tests. Each test gives it its own share alone: those of a module may run in
    several processes, and none does the work of another."""
    with workers(1) as made:
        yield made


def _all_good(aside: ProcessPoolExecutor, first: int, last: int) -> list[Verdict]:
    found = aside.submit(judged, first, last + 1).result()
    assert [verdict.seed for verdict in found] == list(range(first, last + 1))
    failed = [verdict.said(60) for verdict in found if not verdict.good]
    assert not failed, "\n\n".join(failed)
    return found


@pytest.mark.parametrize("first", range(0, _SEEDS, _CHUNK))
def test_every_invariant_holds_in_every_weather(aside: ProcessPoolExecutor, first: int) -> None:
    """And weather it is: over a few seeds every fault happens, and more than one process dies in each."""
    found = _all_good(aside, first, first + _CHUNK - 1)
    assert frozenset().union(*(verdict.struck for verdict in found)) == {*LIKELY, *RARE}
    assert sum(verdict.deaths for verdict in found) > _CHUNK, "processes die in the storm"


@pytest.mark.faults
@pytest.mark.parametrize("first", range(_SEEDS, _LONG, _CHUNK))
def test_every_invariant_holds_in_more_weather(aside: ProcessPoolExecutor, first: int) -> None:
    _all_good(aside, first, first + _CHUNK - 1)


def test_every_invariant_holds_where_corrective_actions_are_refused(aside: ProcessPoolExecutor) -> None:
    """So they are in the worlds of seeds below 0; some of these end well, so that runs end as refused."""
    _all_good(aside, -_FEW, -1)


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_caught(aside: ProcessPoolExecutor, bug: str) -> None:
    """The checker is worth nothing if it lets these pass."""
    assert aside.submit(caught, bug, _ENOUGH).result(), f"{bug}, and no seed fails"


def _digest(seed: int, salt: str) -> str:
    """The steps of a seed in a process of its own, whose hashes differ from ours."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.sim", str(seed)],
        env={**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=True,
    )
    return hashlib.sha256(done.stdout).hexdigest()


def test_a_seed_gives_the_same_steps_in_every_process() -> None:
    """Byte for byte, or a failing seed could not be seen again. This one has transfers and studies."""
    assert _digest(6, "1") == _digest(6, "2")
