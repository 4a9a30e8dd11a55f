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

#: How long each stage of a loop may take, in seconds of the platform clock, as far as it is the same for all.
LIMITS: dict[str, dict[str, float]] = {
    loop: {rule.name: rule.limit.total_seconds() for rule in rules}
    for loop, rules in (
        ("safety", safety.RULES),
        ("transfer", transfer.RULES),
        ("evidence", evidence.RULES),
    )
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


def stages_after(loop: str, stage: str, successor: bool) -> tuple[str, ...]:
    """Stages of a run that come after the one that it is in. The successor of a safety run has fewer."""
    names = stages_of(loop)
    if loop == "safety" and successor:
        names = tuple(rule.name for rule in safety.SUCCESSOR_RULES)
    return names[names.index(stage) + 1 :] if stage in names else ()
