"""The real step of the protocol, one stretch between two waits at a time.

The step's code runs from its beginning with answers that are given; where it
would read the ends of the log, or submit a command, it is stopped, and the
model goes on elsewhere. What the step has read by then is its whole memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from google.protobuf.message import Message

from services.kit.bus.protocol import Partition
from services.kit.store.kinds import Stored
from services.kit.work import Step
from services.traceability.domain.run import Run
from services.traceability.fold import CUT_STEP
from services.traceability.steps import CutStep

Ends = Mapping[Partition, int]
#: What the fold could not take and nobody has settled, by the kind that says so: parked keys, letters.
Untaken = Mapping[str, tuple[Stored[Any], ...]]


class Submits(NamedTuple):
    """The step submits a command."""

    method: str
    request: bytes


class Asks(NamedTuple):
    """The step has read the run (`value` names what it saw) and is about to read the ends of the log."""

    run: str
    value: int


#: "done" when the run is at rest, "again" when the step has to wait.
Outcome = Submits | Asks | str


class _Stopped(Exception):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class _Answers:
    """Stands for the step's database, log and decider."""

    def __init__(
        self, value: int, run: Run | None, folded: Ends, untaken: Untaken, ends: Ends | None
    ) -> None:
        self._value = value
        self._run, self._folded, self._untaken, self._ends = run, folded, untaken, ends

    async def get(self, kind: Any, id: str) -> Stored[Run] | None:
        return Stored(id, 1, self._run) if self._run is not None else None

    async def count(self, kind: Any, filters: Mapping[str, Any]) -> int:
        return len(self._untaken.get(kind.name, ()))

    async def folded(self) -> dict[Partition, int]:
        return dict(self._folded)

    def ends(self, topics: Any) -> Ends:
        if self._ends is None:
            assert self._run is not None
            raise _Stopped(Asks(self._run.run, self._value))
        return self._ends

    async def submit(self, method: str, request: Message, request_id: str, trace: str) -> object:
        raise _Stopped(Submits(method, request.SerializeToString(deterministic=True)))


class Steps:
    """Answers what the step does, and remembers it."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Outcome] = {}
        self._runner = asyncio.Runner()

    def close(self) -> None:
        self._runner.close()

    def goes_on(
        self, value: int, run: Run | None, folded: Ends, untaken: Untaken, ends: Ends | None = None
    ) -> Outcome:
        """From its beginning, with the run as it was read (`value` names it) and the ends, once read."""
        if run is not None and run.cut_is_open:
            # Farther than the cut is no farther.
            cut = {Partition(p.topic, p.partition): p.offset for p in run.cut}
            folded = {place: min(folded.get(place, 0), end) for place, end in cut.items()}
        else:
            folded = {}
        lacks = frozenset(kind for kind, found in untaken.items() if found)
        key = (value, tuple(folded.items()), lacks, None if ends is None else tuple(ends.items()))
        if key not in self._known:
            answers = _Answers(value, run, folded, untaken, ends)
            self._known[key] = self._runner.run(self._course(answers, run))
        return self._known[key]

    async def _course(self, answers: Any, run: Run | None) -> Outcome:
        step = CutStep(answers, answers, answers.folded, answers.submit, (), patience=0.0)
        try:
            again = await step(Step(CUT_STEP, run.run if run else "", ""))
        except _Stopped as stopped:
            return stopped.outcome
        return "done" if again is None else "again"
