"""Stored states of loops."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import Message

from pharmaloop.loops.v1 import events_pb2 as loops
from services.kit.store.kinds import Kind
from services.loops.domain.runs import Journal, RunView, Scope


@dataclass(frozen=True)
class Deadline:
    """A deadline of a stage; the aggregate behind DeadlinePassed."""

    passed: bool


def _evolve(state: Deadline | None, event: Message) -> Deadline:
    return Deadline(passed=True)


@dataclass(frozen=True)
class Cancel:
    """A person asked to end a run; the aggregate behind RunCancelRequested."""

    actor: str


def _asked(state: Cancel | None, event: Message) -> Cancel:
    assert isinstance(event, loops.RunCancelRequested)
    return Cancel(event.actor)


RUNS: Kind[RunView] = Kind(
    "run", RunView, ("lot", "state", "began", "loop", "case", "product", "plant", "sites", "rank")
)
SCOPES: Kind[Scope] = Kind("scope", Scope)
DEADLINES: Kind[Deadline] = Kind("deadline", Deadline, evolve=_evolve)
CANCELS: Kind[Cancel] = Kind("cancel", Cancel, evolve=_asked)
JOURNALS: Kind[Journal] = Kind("journal", Journal)
KINDS = (RUNS, SCOPES, DEADLINES, CANCELS, JOURNALS)
