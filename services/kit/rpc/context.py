"""Who calls, for the code that runs on behalf of a call."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """The originating actor, the call's id, and its trace (W3C traceparent)."""

    actor: str
    call_id: str
    trace: str


_NOBODY = Caller("anonymous", "", "")
_caller: ContextVar[Caller] = ContextVar("caller", default=_NOBODY)


def bind(caller: Caller) -> None:
    _caller.set(caller)


def caller() -> Caller:
    """The caller of the running call."""
    return _caller.get()
