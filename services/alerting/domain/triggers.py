"""What asks for a run of the safety loop, and the runs that must take it up.

A confirmed deviation asks for one; so does what came after the seal of a run,
which names its successor. Trigger, run and end are told by three services:
each part is noted as it comes, and judged only when the time is over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

#: A trigger gets its run within so much platform time.
PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class Trigger:
    """A deviation: when it was confirmed, by when it needs a run (ISO, UTC), and the run it opened.

    Or, where `follows` names a sealed run, that run's successor: then `deviation` is the successor's
    name, and `confirmed` when it was named.
    """

    deviation: str
    lot: str = ""
    confirmed: str = ""
    deadline: str = ""
    run: str = ""
    follows: str = ""


@dataclass(frozen=True)
class Run:
    """A run of the safety loop: from `opened` until `ended` it takes in every trigger of its lot."""

    run: str
    lot: str = ""
    opened: str = ""
    ended: str = ""


def confirmed(trigger: Trigger, lot: str, at: str, deadline: str) -> Trigger:
    return replace(trigger, lot=lot, confirmed=at, deadline=deadline)


def named(trigger: Trigger, root: str, follows: str, at: str, deadline: str) -> Trigger:
    """A sealed run named its successor."""
    return replace(confirmed(trigger, root, at, deadline), follows=follows)


def answered(trigger: Trigger, run: str) -> Trigger:
    """A run was opened for this very trigger."""
    return replace(trigger, run=run)


def opened(run: Run, lot: str, at: str) -> Run:
    return replace(run, lot=lot, opened=at)


def ended(run: Run, at: str) -> Run:
    """The run was sealed, or closed without: from the first of the two on nothing joins it."""
    return replace(run, ended=min(run.ended or at, at))


def is_taken_up(trigger: Trigger, runs_of_lot: list[Run]) -> bool:
    """Did it open a run, or, a deviation, join one of its lot that was open in its time?"""
    if trigger.run or trigger.follows:
        return bool(trigger.run)
    return any(
        run.opened <= trigger.deadline and not (run.ended and run.ended <= trigger.confirmed)
        for run in runs_of_lot
        if run.opened
    )
