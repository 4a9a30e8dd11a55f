"""Runs one seed, with and without its weather, and says what is wrong with it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import structlog

from tests.reliability.sim.bugs import NONE, PLANTED, SEEN_AT, Bugs
from tests.reliability.sim.invariants import Violation, check
from tests.reliability.sim.scheduler import Worlds


class Verdict(NamedTuple):
    """What became of a seed."""

    seed: int
    violations: tuple[Violation, ...]
    steps: tuple[str, ...]
    #: Which faults struck, and how many processes died.
    struck: frozenset[str] = frozenset()
    deaths: int = 0

    @property
    def good(self) -> bool:
        return not self.violations

    def said(self, last: int) -> str:
        """For a person: what is wrong, the last steps, and how to see it again."""
        if self.good:
            return f"seed {self.seed}: every invariant holds"
        lines = [f"seed {self.seed} breaks:"]
        lines += [f"  {v.invariant}: {v.detail}" for v in self.violations]
        if last:
            lines += [f"its last steps, of {len(self.steps)}:", *self.steps[-last:]]
        return "\n".join([*lines, f"see it again: make sim SEED={self.seed}"])


def judge(seed: int, bugs: Bugs = NONE) -> Verdict:
    """Run a seed and check it. A world that cannot go on is a violation like any other."""
    worlds = Worlds(seed, bugs)
    try:
        worlds.run()
    except Exception as error:  # noqa: BLE001 -- whatever stops the world is the finding
        where = "".join(traceback.format_exception(error)[-4:])
        stopped = Violation("comes to rest", f"{error!r}\n{where}")
        return Verdict(seed, (stopped,), tuple(worlds.steps))
    world = worlds.disturbed
    violations = tuple(check(world, worlds.undisturbed))
    return Verdict(seed, violations, tuple(worlds.steps), frozenset(world.weather.struck), world.deaths)


def quiet() -> None:
    """The product's log would be longer than the steps."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@contextmanager
def silence() -> Iterator[None]:
    """Quiet for a while; the log is then as it was."""
    before = structlog.get_config()
    quiet()
    try:
        yield
    finally:
        structlog.configure(**before)


# -- in processes of their own --------------------------------------------------


def workers(many: int | None = None) -> ProcessPoolExecutor:
    """A process for each core, or `many`, each fresh: what a simulated death leaves must meet nobody."""
    return ProcessPoolExecutor(many or os.cpu_count(), mp_context=multiprocessing.get_context("spawn"))


def judged(start: int, end: int) -> list[Verdict]:
    """The verdicts on some seeds; steps travel between processes only where somebody will read them."""
    quiet()
    return [_bare(judge(seed)) for seed in range(start, end)]


def _bare(verdict: Verdict) -> Verdict:
    return verdict if not verdict.good else verdict._replace(steps=())


def caught(bug: str, seeds: int) -> bool:
    """Does any of the first seeds fail with the planted bug?"""
    quiet()
    first = SEEN_AT.get(bug, 0)
    return any(not judge((first + n) % seeds, PLANTED[bug]).good for n in range(seeds))
