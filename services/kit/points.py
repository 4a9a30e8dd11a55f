"""Named points between an effect and its commit, where a test may let the process die.

Every runner passes them in order. Nothing happens there unless a test has
armed one: a child process with `PHARMALOOP_CRASH_AT=relay.published:3` kills
itself, with no clean-up, when it gets to that point for the third time.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping

from services.kit.errors import Invalid

#: Every point, in the order in which its runner passes it.
POINTS = (
    "batch.taken",  # records are in memory, nothing is written
    "batch.written",  # the transaction holds every effect, and is not committed
    "batch.committed",  # committed; offsets and relay do not know yet
    "batch.told",  # the relay is woken, the group's offsets are handed in
    "decider.written",  # the transaction holds the answers and events, and is not committed
    "decider.committed",  # committed; nobody has been answered
    "relay.read",  # rows are in memory
    "relay.published",  # the log has the rows, the outbox does not know
    "relay.marked",  # the outbox knows where its rows stand
    "step.claimed",  # the row is leased, its function has not run
    "step.ran",  # the function's command is committed, the row still stands
    "step.finished",  # the row is done
    "loop.stored",  # the table has the case, no effect is sent
    "loop.sent",  # the effects are in the log, the offset is not committed
    "facts.published",  # the log has the facts, the client is not answered
)
VARIABLE = "PHARMALOOP_CRASH_AT"
_hook: Callable[[str], None] | None = None


def reached(point: str) -> None:
    """The runner is at the point."""
    if _hook is not None:
        _hook(point)


def arm(hook: Callable[[str], None] | None) -> None:
    """Call `hook` at every point from now on; None disarms."""
    global _hook
    _hook = hook


def arm_from(environment: Mapping[str, str]) -> None:
    """Arm what the environment asks for; Invalid for a point that does not exist."""
    wanted = environment.get(VARIABLE, "")
    if not wanted:
        return
    point, _, times = wanted.partition(":")
    if point not in POINTS or not (times or "1").isdigit():
        raise Invalid(
            "BAD_SETTING", f"{VARIABLE}: give a point and a count, as in relay.published:3", VARIABLE
        )
    passed: Counter[str] = Counter()

    def hook(name: str) -> None:
        passed[name] += 1
        if name == point and passed[name] == int(times or 1):
            os.kill(os.getpid(), signal.SIGKILL)

    arm(hook)
