"""What the machines of all loops share: stages that follow one another, deadlines, numbered effects.

A machine is pure. Every rule of when a run may go on is a condition on its
state, so a lost or repeated event, or another order, ends in the same place.
Stages follow one another without a gap: a stage begins where the one before
it ended, so the stages of a run sum to the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.loops.v1 import events_pb2 as loops

R = TypeVar("R", bound="Run")


@dataclass(frozen=True)
class Happened:
    """An event as a machine sees it: `id` is its own, `case` the key of the case that hears of it, `time`
    platform time, `wall` its record's."""

    id: str
    case: str
    message: Message
    time: datetime
    wall: datetime
    run: str = ""


class Run(Protocol):
    """What every run has, a frozen dataclass. Moments are ISO text: `boundary` is where the stage began
    in wall time, `clock` the latest platform time of what the run has heard. `seq` is the number of its
    latest effect."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def run(self) -> str: ...
    @property
    def case(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def boundary(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def clock(self) -> str: ...
    @property
    def closed(self) -> bool: ...


#: An effect: the event, the run it belongs to, its number within the run.
Effect = tuple[Message, str, int]


@dataclass(frozen=True)
class StageRule(Generic[R]):
    """A stage: when it is over, how long it may take (platform time), what it waits for."""

    name: str
    over: Callable[[R], bool]
    limit: timedelta
    waits_for: str


class Emitter(Generic[R]):
    """Holds a run that changes, collects its effects and numbers them."""

    def __init__(self, run: R) -> None:
        self.run = run
        self.effects: list[Effect] = []

    def change(self, **changes: Any) -> None:
        self.run = replace(self.run, **changes)

    def emit(self, message: Message) -> None:
        self.change(seq=self.run.seq + 1)
        self.effects.append((message, self.run.run, self.run.seq))


@dataclass(frozen=True)
class Stages(Generic[R]):
    """A loop's stages, in order, and how its runs go through them.

    `outcome` makes the LoopClosed of a run, with what it rests on. `of` gives
    the stages of one run, `limit` the time of the stage that it is in, where
    these are not the same for all.
    """

    loop: str
    rules: tuple[StageRule[R], ...]
    outcome: Callable[[R], loops.LoopClosed]
    of: Callable[[R], tuple[StageRule[R], ...]] | None = None
    limit: Callable[[R], timedelta] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(rule.name for rule in self.rules)

    def rule(self, run: R) -> StageRule[R]:
        """The rule of the stage that the run is in."""
        return next(rule for rule in self.rules if rule.name == run.stage)

    # -- what happens to a run ---------------------------------------------

    def open(self, run: R, opened: Message, event: Happened) -> Emitter[R]:
        """A run begins: it is told, and its first stage has a deadline."""
        out = Emitter(replace(run, clock=later(run, event)))
        out.emit(opened)
        self.set_deadline(out)
        return out

    def advance(self, out: Emitter[R], event: Happened) -> None:
        """End every stage whose condition holds, in order; after the last, the run."""
        while not out.run.closed and self.rule(out.run).over(out.run):
            run = out.run
            ended = max(event.wall, datetime.fromisoformat(run.boundary))
            out.emit(
                loops.StageCompleted(
                    run=run.run,
                    case=run.case,
                    stage=run.stage,
                    began=stamp(datetime.fromisoformat(run.boundary)),
                    ended=stamp(ended),
                    loop=self.loop,
                )
            )
            rules = self.of(run) if self.of else self.rules
            place = [rule.name for rule in rules].index(run.stage) + 1
            if place == len(rules):
                out.change(boundary=ended.isoformat())
                self.close(out, loops.RUN_OUTCOME_CLOSED)
            else:
                out.change(boundary=ended.isoformat(), stage=rules[place].name)
                if not rules[place].over(out.run):
                    self.set_deadline(out)

    def close(
        self,
        out: Emitter[R],
        outcome: loops.RunOutcome,
        *,
        reason: str = "",
        actor: str = "",
        superseded_by: str = "",
        meaning: str = "",
    ) -> None:
        """The run ends, and names what it rests on."""
        out.change(closed=True)
        ended = self.outcome(out.run)
        ended.run, ended.case, ended.loop, ended.outcome = out.run.run, out.run.case, self.loop, outcome
        ended.reason, ended.actor, ended.superseded_by = reason, actor, superseded_by
        ended.meaning = meaning
        out.emit(ended)

    def cancel(self, out: Emitter[R], message: loops.RunCancelRequested) -> None:
        """A person ends the run, or says which other run covers it."""
        superseded = bool(message.superseded_by)
        outcome = loops.RUN_OUTCOME_SUPERSEDED if superseded else loops.RUN_OUTCOME_CANCELLED
        self.close(
            out,
            outcome,
            reason=message.reason,
            actor=message.actor,
            superseded_by=message.superseded_by,
            meaning=message.meaning,
        )

    def stall(self, out: Emitter[R], message: Message) -> None:
        """A deadline that passed says what is missing, if the run is still in that stage."""
        run = out.run
        if isinstance(message, loops.DeadlinePassed) and message.stage == run.stage:
            waiting = self.rule(run).waits_for
            out.emit(loops.LoopStalled(run=run.run, case=run.case, stage=run.stage, waiting_for=waiting))

    def set_deadline(self, out: Emitter[R]) -> None:
        run = out.run
        limit = self.limit(run) if self.limit else self.rule(run).limit
        due = datetime.fromisoformat(run.clock) + limit
        out.emit(loops.DeadlineSet(run=run.run, case=run.case, stage=run.stage, due=stamp(due)))


def later(run: Run, event: Happened) -> str:
    """A run's clock does not go back: an answer that was given long ago may complete a stage today."""
    return max(run.clock, event.time.astimezone(UTC).isoformat(timespec="microseconds"))


def stamp(moment: datetime) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(moment)
    return found
