"""What all statistics without a fit share: sites are counted first, then sums are asked for, phase by phase.

presence -> the phases of the model -> done

With noise, where a model takes it: noised -> done. That is one round, and a site
answers no second one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from services.exchange.domain.errors import Unfit
from services.exchange.domain.stats import columns, design, noised
from services.exchange.domain.stats.noised import NOISED, Noise, Noised
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
from services.refusals import Malformed

PRESENCE = "presence"

Sums = dict[str, Vector]


@dataclass(frozen=True)
class Job:
    """A specification as read. `own` holds the model's part of it."""

    canonical: dict[str, Any]
    rules: Protection
    level: float
    own: Any
    noise: Noise | None = None


class Summed(ABC):
    """A statistic of sums. `phases` come one after the other; the models are subclasses."""

    name: str
    phases: tuple[str, ...] = ("sums",)
    takes_noise = False
    repeats = ""

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

    # With noise ---------------------------------------------------------------------------------

    def sensitivity(self, job: Job) -> float:
        """How long the vector is by which one patient more or less changes `noised_sums`."""
        raise NotImplementedError

    def noised_parts(self, job: Job) -> list[Part]:
        """The sums that are asked for with noise."""
        raise NotImplementedError

    def noised_sums(self, job: Job, table: Columns) -> Sums:
        """A site's sums, as they are before noise; of a table that has rows."""
        raise NotImplementedError

    def noised_result(self, job: Job, totals: Mapping[str, Vector], found: Noised) -> Result:
        """The result of totals with noise in them."""
        raise NotImplementedError

    def noise(self, ask: Ask) -> Vector | None:
        job = self.read(ask.spec)
        if job.noise is None:
            return None
        return noised.scales(self.layout(ask).parts, job.noise.scale(self.sensitivity(job)))

    # Both sides ---------------------------------------------------------------------------------

    def course(self, spec: Spec) -> tuple[str, ...]:
        return (NOISED,) if self.read(spec).noise else (PRESENCE, *self.phases)

    def read(self, said: Spec) -> Job:
        """Raises Malformed for a specification that breaks a rule."""
        fields = Fields(said)
        fields.choice("model", (self.name,))
        own = self.read_own(fields)
        rules = protection(fields)
        level = fields.number("level", 0.5, 0.9999, 0.95)
        asked = noised.noise(fields) if self.takes_noise else None
        return Job(fields.finish(), rules, level, own, asked)

    def layout(self, ask: Ask) -> Layout:
        job = self.read(ask.spec)
        if job.noise:
            _check_noised(self.name, ask)
            scale = job.noise.scale(self.sensitivity(job))
            return Layout(tuple(noised.widened(self.noised_parts(job), scale)))
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
        if job.noise:
            held = self.noised_sums(job, table) if n else _nothing(layout)
            return layout.join({**held, noised.SITES: np.ones(1)})
        if n == 0:
            return np.zeros(layout.size)
        if ask.phase == PRESENCE:
            # What does not fit is refused before anything is sent.
            first = self.phases[0]
            self.sums(job, first, (0.0,) * self.asked(job, first), table)
            return layout.join({"site": np.ones(1)})
        return layout.join(self.sums(job, ask.phase, ask.parameters, table))

    def start(self, spec: Spec) -> State:
        canonical = self.read(spec).canonical
        return State(canonical, self.course(canonical)[0], 1, {"ask": [], "totals": {}})

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
        if job.noise:
            design.contributing(found[noised.SITES][0], job.rules)
        course = self.course(state.spec)
        at = course.index(state.phase) + 1
        if at == len(course):
            memo = {"ask": [], "totals": totals}
            self._concluded(job, _arrays(totals), state.round)  # a refusal comes now, not at the result
            return State(state.spec, DONE, state.round, memo)
        memo = {"ask": self.after(job, state.phase, _arrays(totals)), "totals": totals}
        return State(state.spec, course[at], state.round + 1, memo)

    def result(self, state: State) -> Result:
        if state.phase != DONE:
            raise Malformed("NOT_DONE", "this job still asks; go on until it asks nothing more", "state")
        return self._concluded(self.read(state.spec), _arrays(state.memo["totals"]), state.round)

    def _concluded(self, job: Job, totals: Mapping[str, Vector], rounds: int) -> Result:
        if job.noise is None:
            return self.conclude(job, totals, rounds)
        found = noised.of_total(totals, job.noise, self.sensitivity(job))
        result = self.noised_result(job, totals, found)
        return replace(
            result,
            rounds=rounds,
            flags=("NOISED", *result.flags),
            tables={**result.tables, "noise": found.told()},
        )


def enough(n: float, rules: Protection, least: int = 1) -> int:
    """The number of rows as a whole number. Raises Unfit for fewer than agreed."""
    rows = round(float(n))
    least = max(rules.cells_at_least, least)
    if rows < least:
        raise Unfit("SMALL_CELL", f"fewer than {least} rows at all sites together", "table")
    return rows


def _check_noised(name: str, ask: Ask) -> None:
    if ask.phase != NOISED or ask.parameters:
        said = f"{name} with noise has one phase, {NOISED}, without parameters"
        raise Malformed("NO_SUCH_PHASE", said, "phase")


def _nothing(layout: Layout) -> Sums:
    return {piece.name: np.zeros(piece.shape) for piece in layout.parts}


def _arrays(totals: Mapping[str, Any]) -> dict[str, Vector]:
    return {name: np.array(value, dtype=float) for name, value in totals.items()}
