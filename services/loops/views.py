"""Stored states of loops."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import Message

from services.kit.store.kinds import Kind
from services.loops.domain.runs import RunView


@dataclass(frozen=True)
class Deadline:
    """A deadline of a stage; the aggregate behind DeadlinePassed."""

    passed: bool


def _evolve(state: Deadline | None, event: Message) -> Deadline:
    return Deadline(passed=True)


RUNS: Kind[RunView] = Kind("run", RunView, ("lot", "state", "began"))
DEADLINES: Kind[Deadline] = Kind("deadline", Deadline, evolve=_evolve)
KINDS = (RUNS, DEADLINES)
