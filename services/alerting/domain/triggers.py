"""What asks for a run of a loop, and the runs that must take it up.

A confirmed deviation asks for one of the safety loop; so does what came after
the seal of a run, which names its successor. A released parameter set asks for
one of the transfer loop, a requested study for one of the evidence loop.
Trigger, run and end are told by several services: each part is noted as it
comes, and judged only when the time is over.
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
    name, and `confirmed` when it was named. Or, where `asked` says what, a release or a study: then
    `deviation` is the trigger's own name, `lot` its case, and only its own run takes it up.
    """

    deviation: str
    lot: str = ""
    confirmed: str = ""
    deadline: str = ""
    run: str = ""
    follows: str = ""
    asked: str = ""


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


def asked(trigger: Trigger, case: str, what: str, at: str, deadline: str) -> Trigger:
    """A run of another loop was asked for; `what` says by what, for people."""
    return replace(confirmed(trigger, case, at, deadline), asked=what)


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
    if trigger.run or trigger.follows or trigger.asked:
        return bool(trigger.run)
    return any(
        run.opened <= trigger.deadline and not (run.ended and run.ended <= trigger.confirmed)
        for run in runs_of_lot
        if run.opened
    )
