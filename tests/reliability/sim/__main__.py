"""One seed of the simulation, or very many: `make sim SEED=7`, `make sim-night SEEDS=10000`.

Prints the steps of a failing seed, and how to see it again. The result line
says how many seeds were run, how many failed, and when.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import as_completed
from datetime import UTC, datetime

from tests.reliability.sim.verdict import Verdict, judge, judged, quiet, workers

_CHUNK = 25
_LAST_STEPS = 80


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.reliability.sim")
    parser.add_argument("seed", nargs="?", type=int, help="run this seed and print its steps")
    parser.add_argument("--many", type=int, metavar="SEEDS", help="run so many seeds on every core")
    parser.add_argument("--first", type=int, default=0, help="the first of the many seeds")
    asked = parser.parse_args()
    quiet()
    if asked.many:
        return _night(asked.first, asked.many)
    return _one(asked.seed or 0)


def _one(seed: int) -> int:
    verdict = judge(seed)
    print("\n".join(verdict.steps))
    print(verdict.said(0))
    return int(not verdict.good)


def _night(first: int, count: int) -> int:
    bad, done = [], 0
    for verdicts in _chunks(first, count):
        done += len(verdicts)
        for verdict in verdicts:
            if not verdict.good:
                bad.append(verdict.seed)
                print(verdict.said(_LAST_STEPS), flush=True)
        print(f"{done} of {count} seeds, {len(bad)} failed", file=sys.stderr, flush=True)
    today = datetime.now(UTC).date().isoformat()
    print(f"{today}: {done} seeds from {first}, {len(bad)} failed {sorted(bad) if bad else ''}".rstrip())
    return int(bool(bad))


def _chunks(first: int, count: int) -> Iterator[list[Verdict]]:
    with workers() as pool:
        starts = range(first, first + count, _CHUNK)
        running = [pool.submit(judged, start, min(start + _CHUNK, first + count)) for start in starts]
        for done in as_completed(running):
            yield done.result()


if __name__ == "__main__":
    sys.exit(main())
