"""Who calls, for the code that runs on behalf of a call."""

from __future__ import annotations

import math
import time
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Caller:
    """The originating actor, the call's id, its trace (W3C traceparent) and its end (monotonic)."""

    actor: str
    call_id: str
    trace: str
    end: float = field(default=math.inf, compare=False)

    def seconds_left(self) -> float:
        """How long the caller still waits."""
        return self.end - time.monotonic()


_NOBODY = Caller("anonymous", "", "")
_caller: ContextVar[Caller] = ContextVar("caller", default=_NOBODY)


def bind(caller: Caller) -> None:
    _caller.set(caller)


def caller() -> Caller:
    """The caller of the running call."""
    return _caller.get()
