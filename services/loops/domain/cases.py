"""The machines of all loops as one, over the one topic of cases: a case belongs to one loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.loops.domain import evidence, safety, transfer
from services.loops.domain.stages import Effect, Happened

#: Names of each loop's stages, in order.
STAGES: dict[str, tuple[str, ...]] = {
    loop.loop: loop.names for loop in (safety.STAGES, transfer.STAGES, evidence.STAGES)
}


@dataclass(frozen=True)
class Case:
    """What a case holds: the state of the loop that it belongs to, the others are left out."""

    safety: safety.Case | None = None
    transfer: transfer.Case | None = None
    evidence: evidence.Case | None = None

    def places(self) -> dict[str, int]:
        """The number of the latest effect of each of its runs."""
        runs: list[safety.Run | transfer.Run | evidence.Run] = []
        if self.safety:
            runs += self.safety.runs
        if self.transfer:
            runs += self.transfer.runs
        if self.evidence and self.evidence.run.run:
            runs.append(self.evidence.run)
        return {run.run: run.seq for run in runs}


def react(
    case: Case | None, loop: str, event: Happened, run_id: Callable[[str], str]
) -> tuple[Case, list[Effect]]:
    """The loop's case after the event, and what it emits. `run_id` makes a run's id from its trigger."""
    held = case or Case()
    match loop:
        case "transfer":
            of_set, effects = transfer.react(held.transfer, event, run_id)
            return Case(transfer=of_set), effects
        case "evidence":
            of_study, effects = evidence.react(held.evidence, event, run_id)
            return Case(evidence=of_study), effects
        case _:
            of_lot, effects = safety.react(held.safety, event, run_id)
            return Case(safety=of_lot), effects


def stages_of(loop: str) -> tuple[str, ...]:
    """Stages of a loop; those of the safety loop for what was told before there were others."""
    return STAGES[loop or "safety"]
