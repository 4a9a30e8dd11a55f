"""What all statistics without a fit share: sites are counted first, then sums are asked for, phase by phase.

presence -> the phases of the model -> done
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.exchange.domain.errors import Malformed, Unfit
from services.exchange.domain.stats import columns, design
from services.exchange.domain.stats.protocol import (
    DONE,
    Ask,
    Columns,
    Layout,
    Part,
    Result,
    Spec,
    State,
    Vector,
    part,
)
from services.exchange.domain.stats.reading import Fields, Protection, protection

PRESENCE = "presence"

Sums = dict[str, Vector]


@dataclass(frozen=True)
class Job:
    """A specification as read. `own` holds the model's part of it."""

    canonical: dict[str, Any]
    rules: Protection
    level: float
    own: Any


class Summed(ABC):
    """A statistic of sums. `phases` come one after the other; the models are subclasses."""

    name: str
    phases: tuple[str, ...] = ("sums",)

    @abstractmethod
    def read_own(self, fields: Fields) -> Any:
        """Reads the model's fields."""

    @abstractmethod
    def parts(self, job: Job, phase: str) -> list[Part]: ...

    @abstractmethod
    def sums(self, job: Job, phase: str, parameters: Sequence[float], table: Columns) -> Sums:
        """A site's sums in this phase; of a table that has rows."""

    def asked(self, job: Job, phase: str) -> int:
        """How many parameters this phase has."""
        return 0

    def after(self, job: Job, phase: str, total: Mapping[str, Any]) -> list[float]:
        """The parameters of the next phase. Raises Unfit where the sums do not carry it."""
        return []

    @abstractmethod
    def conclude(self, job: Job, totals: Mapping[str, Vector], rounds: int) -> Result:
        """The result of the totals of all phases, by the names of their parts."""

    def read(self, said: Spec) -> Job:
        """Raises Malformed for a specification that breaks a rule."""
        fields = Fields(said)
        fields.choice("model", (self.name,))
        own = self.read_own(fields)
        rules = protection(fields)
        level = fields.number("level", 0.5, 0.9999, 0.95)
        return Job(fields.finish(), rules, level, own)

    def layout(self, ask: Ask) -> Layout:
        job = self.read(ask.spec)
        if ask.phase == PRESENCE:
            return Layout((part("site", 1, 1.0),))
        if ask.phase not in self.phases:
            raise Malformed("NO_SUCH_PHASE", f"{self.name} has no phase {ask.phase}", "phase")
        if len(ask.parameters) != self.asked(job, ask.phase) or not np.all(np.isfinite(ask.parameters)):
            raise Malformed("WRONG_PARAMETERS", "the parameters of this phase are incomplete", "parameters")
        return Layout(tuple(self.parts(job, ask.phase)))

    def contribute(self, ask: Ask, table: Columns) -> Vector:
        job, layout = self.read(ask.spec), self.layout(ask)
        n = columns.rows(table, job.rules.rows_at_most)
        if n == 0:
            return np.zeros(layout.size)
        if ask.phase == PRESENCE:
            # What does not fit is refused before anything is sent.
            first = self.phases[0]
            self.sums(job, first, (0.0,) * self.asked(job, first), table)
            return layout.join({"site": np.ones(1)})
        return layout.join(self.sums(job, ask.phase, ask.parameters, table))

    def start(self, spec: Spec) -> State:
        return State(self.read(spec).canonical, PRESENCE, 1, {"ask": [], "totals": {}})

    def ask(self, state: State) -> Ask | None:
        if state.phase == DONE:
            return None
        return Ask(state.spec, state.phase, state.round, tuple(state.memo["ask"]))

    def take(self, state: State, total: Vector) -> State:
        ask = self.ask(state)
        if ask is None:
            raise Malformed("IS_DONE", "this job asks nothing more", "state")
        job, found = self.read(state.spec), self.layout(ask).split(total)
        if state.phase == PRESENCE:
            design.contributing(found["site"][0], job.rules)
            return State(state.spec, self.phases[0], state.round + 1, state.memo)
        totals = {**state.memo["totals"], **{name: value.tolist() for name, value in found.items()}}
        at = self.phases.index(state.phase) + 1
        if at == len(self.phases):
            memo = {"ask": [], "totals": totals}
            self.conclude(job, _arrays(totals), state.round)  # a refusal comes now, not at the result
            return State(state.spec, DONE, state.round, memo)
        memo = {"ask": self.after(job, state.phase, _arrays(totals)), "totals": totals}
        return State(state.spec, self.phases[at], state.round + 1, memo)

    def result(self, state: State) -> Result:
        if state.phase != DONE:
            raise Malformed("NOT_DONE", "this job still asks; go on until it asks nothing more", "state")
        return self.conclude(self.read(state.spec), _arrays(state.memo["totals"]), state.round)


def enough(n: float, rules: Protection, least: int = 1) -> int:
    """The number of rows as a whole number. Raises Unfit for fewer than agreed."""
    rows = round(float(n))
    least = max(rules.cells_at_least, least)
    if rows < least:
        raise Unfit("SMALL_CELL", f"fewer than {least} rows at all sites together", "table")
    return rows


def _arrays(totals: Mapping[str, Any]) -> dict[str, Vector]:
    return {name: np.array(value, dtype=float) for name, value in totals.items()}
