"""What all regressions share: the phases of a job, the climb of the coordinator, the way back to units.

    presence -> moments -> fit, fit, ... -> (scores) -> done

The parameters of a fit are the scaling (`Frame`), whether third derivatives are
asked for (Firth), what the family itself needs, and the point. A family says
what a site adds to the sums at that point and what the sums are worth.

Where the likelihood has no highest point the specification says what happens
(`fallback`), and the result carries a flag:

    refuse   the job ends with the names of the terms
    ridge    from the start again with the penalty lambda / 2 times the sum of the
             squared scaled coefficients, the intercept left out of it
    firth    logistic only: the likelihood times the root of the determinant of
             the information (Firth, Biometrika 1993;80:27; Heinze and Schemper,
             Stat Med 2002;21:2409)

Standard errors are from the inverse of the information, with a ridge of the
information plus lambda (the wider of the two customs).
"""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from services.exchange.domain.errors import Unfit
from services.exchange.domain.stats import clusters, columns, design, newton
from services.exchange.domain.stats.clusters import Clusters
from services.exchange.domain.stats.design import Frame, Term
from services.exchange.domain.stats.newton import Climb, Evaluation
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

PRESENCE, MOMENTS, FIT, SCORES = "presence", "moments", "fit", "scores"

Sums = dict[str, Vector]


@dataclass(frozen=True)
class Regression:
    """A specification as read. `own` holds the family's part of it."""

    canonical: dict[str, Any]
    terms: tuple[Term, ...]
    intercept: bool
    rules: Protection
    level: float
    tolerance: float
    max_rounds: int
    ridge: float
    fallback: str
    fallback_ridge: float
    clusters: Clusters | None
    own: Any


@dataclass(frozen=True, eq=False)
class Point:
    """Where the sites are asked to evaluate: scaling, the family's own numbers, coefficients."""

    frame: Frame
    firth: bool
    own: tuple[float, ...]
    beta: Vector

    def pack(self) -> list[float]:
        return [
            *self.frame.pack(),
            float(self.firth),
            float(len(self.own)),
            *self.own,
            *self.beta.tolist(),
        ]


class Fitted(ABC):
    """A regression by Newton's method; the families are its subclasses."""

    name: str
    #: Whether the family's likelihood has a constant term; Cox's has none.
    has_intercept = True
    fallbacks: tuple[str, ...] = ("refuse", "ridge")
    default_fallback = "ridge"
    #: How standard errors may be had.
    errors: tuple[str, ...] = ("model",)
    #: A fit asks at points that follow from the sums before: noise in one would be in all that follow.
    takes_noise = False
    repeats = FIT

    # What a family says -------------------------------------------------------------------------

    @abstractmethod
    def read_own(self, fields: Fields) -> Any:
        """Reads the family's fields."""

    @abstractmethod
    def outcome(self, spec: Regression, table: Columns) -> Any:
        """The checked outcome of the rows of a table that has some."""

    @abstractmethod
    def own_moment_parts(self, spec: Regression) -> list[Part]: ...

    @abstractmethod
    def own_moments(self, spec: Regression, table: Columns) -> Sums:
        """What the family sums beside the columns' moments; of a table that has rows."""

    @abstractmethod
    def learn(self, spec: Regression, total: Sums, n: float) -> Learnt:
        """What the moments of all sites tell the family. Raises Unfit where they do not carry a fit."""

    @abstractmethod
    def fit_parts(self, spec: Regression, point: Point) -> list[Part]: ...

    @abstractmethod
    def fit(self, spec: Regression, point: Point, raw: Vector, table: Columns) -> Sums | None:
        """A site's sums at the point; None where a mean or risk is beyond what the layout allows."""

    @abstractmethod
    def evaluation(self, spec: Regression, point: Point, total: Sums) -> Evaluation:
        """What the sums of all sites are worth, without any penalty."""

    def scores(
        self, spec: Regression, point: Point, raw: Vector, table: Columns
    ) -> tuple[Vector, float]:  # pragma: no cover - families without robust errors are never asked
        """Each row's part of the gradient, shape (n, p), and the bound of a residual."""
        raise NotImplementedError

    def residual_bound(self, spec: Regression, point: Point) -> float:
        """The largest absolute residual of a row; for families with robust errors."""
        raise NotImplementedError

    @abstractmethod
    def conclude(self, spec: Regression, state: State, solved: Solved) -> Result:
        """The result in the units of the data."""

    # Both sides ---------------------------------------------------------------------------------

    def read(self, said: Spec) -> Regression:
        """Raises Malformed for a specification that breaks a rule."""
        try:
            text = _text(said)
        except (TypeError, ValueError):
            return self.read_anew(said)  # which says what is wrong with it
        return _read(self, text)

    def read_anew(self, said: Spec) -> Regression:
        fields = Fields(said)
        fields.choice("model", (self.name,))
        found = design.terms(fields)
        intercept = fields.flag("intercept", True) if self.has_intercept else False
        own = self.read_own(fields)
        errors = fields.choice("errors", self.errors, "model")
        spec = Regression(
            {},
            found,
            intercept,
            protection(fields),
            fields.number("level", 0.5, 0.9999, 0.95),
            fields.number("tolerance", 1e-14, 1e-3, 1e-10),
            fields.whole("max_rounds", 3, 500, 50),
            fields.number("ridge", 0.0, 1e9, 0.0),
            fields.choice("fallback", self.fallbacks, self.default_fallback),
            fields.number("fallback_ridge", 1e-9, 1e9, 1.0),
            clusters.read(fields, errors, [term.name for term in found]),
            own,
        )
        return replace(spec, canonical=fields.finish())

    def width(self, spec: Regression, frame: Frame) -> int:
        return sum(frame.kept) + spec.intercept

    def names(self, spec: Regression, frame: Frame) -> list[str]:
        kept = [term.name for term in frame.of(spec.terms)]
        return ["intercept", *kept] if spec.intercept else kept

    def point(self, spec: Regression, flat: Sequence[float]) -> Point:
        """The point of a fit's parameters. Raises Malformed where they are not one."""
        frame, rest = Frame.unpack(flat, len(spec.terms))
        size = self.width(spec, frame)
        own = len(rest) - 2 - size
        if own < 0 or rest[1] != own or not np.all(np.isfinite(rest)):
            raise Malformed("WRONG_PARAMETERS", "the point of the fit is incomplete", "parameters")
        point = Point(frame, rest[0] == 1.0, rest[2 : 2 + own], np.array(rest[2 + own :]))
        if not self.takes(spec, point.own):
            said = f"the numbers that {self.name} itself is asked with are none that it agreed to"
            raise Malformed("WRONG_PARAMETERS", said, "parameters")
        return point

    def takes(self, spec: Regression, own: tuple[float, ...]) -> bool:
        """Are the family's own numbers of a point such as the specification allows?"""
        return not own

    def layout(self, ask: Ask) -> Layout:
        try:
            text = _text(ask.spec)
        except (TypeError, ValueError):
            return self.layout_anew(self.read_anew(ask.spec), ask.phase, ask.parameters)
        return _layout(self, text, ask.phase, ask.parameters)

    def layout_anew(self, spec: Regression, phase: str, parameters: tuple[float, ...]) -> Layout:
        if phase == PRESENCE:
            return Layout((*design.presence_parts(spec.terms), *clusters.presence_parts(spec.clusters)))
        if phase == MOMENTS:
            kept = [term for term, flag in zip(spec.terms, _kept(parameters, spec), strict=True) if flag]
            most = spec.rules.rows_at_most
            return Layout((*design.moment_parts(kept, most), *self.own_moment_parts(spec)))
        if phase == FIT:
            point = self.point(spec, parameters)
            return Layout((*self.fit_parts(spec, point), part("overflow", 1, 1.0)))
        if phase == SCORES and spec.clusters is not None:
            point, summed = self._scoring(spec, spec.clusters, parameters)
            reach = point.frame.reach(spec.terms, spec.intercept) * self.residual_bound(spec, point)
            return Layout(tuple(clusters.parts(summed, reach, spec.rules.rows_at_most)))
        raise Malformed("NO_SUCH_PHASE", f"{self.name} has no phase {phase}", "phase")

    def _scoring(self, spec: Regression, found: Clusters, flat: Sequence[float]) -> tuple[Point, Clusters]:
        """The point at which scores are asked, and the clusters that are summed over sites."""
        end = len(flat) - len(found.shared)
        return self.point(spec, flat[: max(end, 0)]), found.summed(flat[max(end, 0) :])

    def course(self, spec: Spec) -> tuple[str, ...]:
        scored = (SCORES,) if self.read(spec).clusters is not None else ()
        return (PRESENCE, MOMENTS, FIT, *scored)

    def noise(self, ask: Ask) -> Vector | None:
        return None

    # The site -----------------------------------------------------------------------------------

    def contribute(self, ask: Ask, table: Columns) -> Vector:
        spec, layout = self.read(ask.spec), self.layout(ask)
        n = columns.rows(table, spec.rules.rows_at_most)
        if n == 0:
            return np.zeros(layout.size)
        raw = design.matrix(spec.terms, table, n)
        if ask.phase == PRESENCE:
            self.outcome(spec, table)  # what does not fit is refused before anything is sent
            return layout.join({**design.presence(raw), **clusters.presence(spec.clusters, table)})
        if ask.phase == MOMENTS:
            flags = _kept(ask.parameters, spec)
            kept = [term for term, flag in zip(spec.terms, flags, strict=True) if flag]
            sums = design.moments(kept, raw[:, list(flags)])
            return layout.join({**sums, **self.own_moments(spec, table)})
        if ask.phase == FIT:
            point = self.point(spec, ask.parameters)
            found = self.fit(spec, point, raw, table)
            if found is None:
                nothing = {piece.name: np.zeros(piece.shape) for piece in layout.parts}
                return layout.join({**nothing, "overflow": np.ones(1)})
            return layout.join({**found, "overflow": np.zeros(1)})
        assert spec.clusters is not None  # the layout has refused it otherwise
        point, summed = self._scoring(spec, spec.clusters, ask.parameters)
        rows, _ = self.scores(spec, point, raw, table)
        return layout.join(clusters.sums(summed, rows, table))

    # The coordinator ----------------------------------------------------------------------------

    def start(self, spec: Spec) -> State:
        return State(self.read(spec).canonical, PRESENCE, 1, {"flags": [], "ask": []})

    def ask(self, state: State) -> Ask | None:
        if state.phase == DONE:
            return None
        flags = map(float, state.memo["clusters"]) if state.phase == SCORES else ()
        return Ask(state.spec, state.phase, state.round, (*state.memo["ask"], *flags))

    def take(self, state: State, total: Vector) -> State:
        ask = self.ask(state)
        if ask is None:
            raise Malformed("IS_DONE", "this job asks nothing more", "state")
        spec, found = self.read(state.spec), self.layout(ask).split(total)
        memo = dict(state.memo)
        if state.phase == PRESENCE:
            kept, flags = design.kept_terms(spec.terms, found["present"], found["site"][0], spec.rules)
            memo["clusters"] = clusters.present(spec.clusters, found, spec.rules)
            memo["clusters_exposed"] = clusters.exposed(spec.clusters, found, memo["clusters"])
            memo.update(ask=[float(flag) for flag in kept], kept=list(kept), flags=list(flags))
            return State(state.spec, MOMENTS, state.round + 1, memo)
        if state.phase == MOMENTS:
            return self._begin(spec, state, found)
        if state.phase == FIT:
            return self._climb(spec, state, found)
        memo["scores"] = {name: value.tolist() for name, value in found.items()}
        return State(state.spec, DONE, state.round, memo)

    def _begin(self, spec: Regression, state: State, total: Sums) -> State:
        """The scaling, and the first point."""
        n = float(round(total["rows"][0]))
        rules = spec.rules
        if n == 0:
            raise Unfit("NO_ROWS", "no site has a row that fits the specification", "table")
        kept = tuple(bool(flag) for flag in state.memo["kept"])
        width = sum(kept) + spec.intercept
        if width > rules.parameters_per_row * n:
            said = (
                f"{width} parameters are too many for {n:.0f} rows; "
                f"at most {rules.parameters_per_row:g} for each row"
            )
            raise Unfit("TOO_MANY_PARAMETERS", said, "terms")
        centred = spec.intercept or not self.has_intercept
        frame = design.frame(spec.terms, kept, total, centred, spec.ridge > 0)
        learnt = self.learn(spec, total, n)
        beta = np.zeros(width)
        if spec.intercept:
            beta[0] = learnt.intercept
        memo = {
            **state.memo,
            "n": n,
            "events": learnt.events,
            "own": list(learnt.own),
            "known": dict(learnt.known),
            "start": beta.tolist(),
            "frame": frame.pack(),
        }
        if spec.ridge:
            memo["flags"] = [*memo["flags"], "RIDGE"]
        return self._from_start(state, memo, "plain", spec.ridge, state.round + 1)

    def _from_start(self, state: State, memo: dict[str, Any], mode: str, ridge: float, round_: int) -> State:
        climb = Climb(np.array(memo["start"]))
        memo = {**memo, "mode": mode, "ridge": ridge, "climb": climb.to_json()}
        return self._asking(state, memo, climb, round_)

    def _asking(self, state: State, memo: dict[str, Any], climb: Climb, round_: int) -> State:
        frame, _ = Frame.unpack(memo["frame"], len(memo["kept"]))
        point = Point(frame, memo["mode"] == "firth", tuple(memo["own"]), climb.trial)
        return State(state.spec, FIT, round_, {**memo, "climb": climb.to_json(), "ask": point.pack()})

    def _climb(self, spec: Regression, state: State, total: Sums) -> State:
        """One step: on, to the end, or over to the fallback."""
        memo, climb = dict(state.memo), Climb.from_json(state.memo["climb"])
        point = self.point(spec, memo["ask"])
        found = None
        if round(float(total["overflow"][0])) == 0:
            found = self.evaluation(spec, point, total)
            found = _penalised(found, point, memo["ridge"], spec.intercept, total)
        climb, verdict = newton.advance(climb, found, spec.tolerance)
        memo["climb"] = climb.to_json()
        names = self.names(spec, point.frame)
        if verdict in {"singular", "separable"} and memo["mode"] == "plain" and not memo["ridge"]:
            return self._fall_back(spec, state, memo, climb, verdict, names)
        if verdict == "go on" and state.round < spec.max_rounds:
            return self._asking(state, memo, climb, state.round + 1)
        if climb.best is None:
            said = "the likelihood cannot be evaluated at the start; narrow the ranges or add an intercept"
            raise Unfit("NO_START", said, "terms")
        if verdict != "converged":
            memo["flags"] = [*memo["flags"], "NOT_CONVERGED"]
        return self._finish(spec, state, memo, climb)

    def _finish(self, spec: Regression, state: State, memo: dict[str, Any], climb: Climb) -> State:
        """The end of the climb; errors by row or by lot need the scores there."""
        if spec.clusters is None:
            return State(state.spec, DONE, state.round, memo)
        assert climb.at is not None
        last = replace(self.point(spec, memo["ask"]), firth=False, beta=climb.at)
        return State(state.spec, SCORES, state.round + 1, {**memo, "ask": last.pack()})

    def _fall_back(
        self,
        spec: Regression,
        state: State,
        memo: dict[str, Any],
        climb: Climb,
        verdict: str,
        names: Sequence[str],
    ) -> State:
        assert climb.best is not None
        if verdict == "singular":
            bound = ", ".join(newton.dependent(climb.best.information, names))
            if spec.fallback != "ridge":
                said = f"{bound} depend on each other; leave one out or set a ridge"
                raise Unfit("SINGULAR_INFORMATION", said, "terms")
            flag = "SINGULAR_INFORMATION"
        else:
            if spec.fallback == "refuse":
                assert climb.at is not None
                far = names[int(np.argmax(np.abs(climb.at - np.array(memo["start"]))))]
                said = (
                    f"the data are separable, the estimates have no bound (furthest: {far}); "
                    "agree on a ridge or another fallback, or join levels"
                )
                raise Unfit("SEPARABLE", said, "terms")
            flag = "SEPARABLE"
        if state.round >= spec.max_rounds:
            memo["flags"] = [*memo["flags"], flag, "NOT_CONVERGED"]
            return self._finish(spec, state, memo, climb)
        memo["flags"] = [*memo["flags"], flag, spec.fallback.upper()]
        ridge = spec.fallback_ridge if spec.fallback == "ridge" else 0.0
        return self._from_start(state, memo, spec.fallback, ridge, state.round + 1)

    def measure(self, state: State) -> Ask:
        """One more look where the climb of this state ended: its log-likelihood, of any rows."""
        climb = Climb.from_json(state.memo["climb"])
        point = self.point(self.read(state.spec), state.memo["ask"])
        if climb.at is None:
            raise Malformed("NOT_DONE", "the climb has no point yet", "state")
        last = replace(point, firth=False, beta=climb.at)
        return Ask(state.spec, FIT, state.round + 1, tuple(last.pack()))

    def result(self, state: State) -> Result:
        if state.phase != DONE:
            raise Malformed("NOT_DONE", "this job still asks; go on until it asks nothing more", "state")
        spec, memo = self.read(state.spec), state.memo
        climb = Climb.from_json(memo["climb"])
        point = self.point(spec, memo["ask"])
        assert climb.best is not None
        assert climb.at is not None
        bread = newton.invert(climb.best.information)
        flags = list(memo["flags"])
        if bread is None:
            flags.append("NO_STANDARD_ERRORS")
            bread = np.full((len(climb.at), len(climb.at)), np.nan)
        solved = Solved(self.names(spec, point.frame), point, climb.at, bread, climb.best, tuple(flags))
        return self.conclude(spec, state, solved)


@dataclass(frozen=True)
class Learnt:
    """What a family takes from the moments.

    `own` goes to the sites with each fit; `known` stays with the coordinator;
    `intercept` is where its climb begins.
    """

    events: int | None = None
    own: tuple[float, ...] = ()
    intercept: float = 0.0
    known: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Solved:
    """The end of the climb in the scaled units: coefficients, inverse information, last evaluation."""

    names: list[str]
    point: Point
    beta: Vector
    bread: Vector
    last: Evaluation
    flags: tuple[str, ...]


def scaling(spec: Regression, frame: Frame) -> dict[str, Any]:
    """The federated standardisation, as a result tells it."""
    kept = frame.of(spec.terms)
    return {
        "names": [term.name for term in kept],
        "centre": frame.centre.tolist(),
        "scale": frame.scale.tolist(),
        "ddof": design.DDOF,
    }


def third_places(size: int) -> list[tuple[int, int, int]]:
    """The places of the third derivatives that are sent: each set of three indices once."""
    return list(itertools.combinations_with_replacement(range(size), 3))


def _penalised(
    found: Evaluation, point: Point, ridge: float, intercept: bool, total: Sums
) -> Evaluation | None:
    """The evaluation with the ridge, or with Firth's half log-determinant, that the climb is for."""
    if point.firth:
        return _firth(found, len(point.beta), total["third"])
    if not ridge:
        return found
    weight = np.full(len(point.beta), ridge)
    if intercept:
        weight[0] = 0.0
    return Evaluation(
        found.value - float(weight @ point.beta**2) / 2,
        found.gradient - weight * point.beta,
        found.information + np.diag(weight),
        found.log_likelihood,
    )


def _firth(found: Evaluation, size: int, third: Vector) -> Evaluation | None:
    """d/db_r of log det I / 2 = trace(I^-1 dI/db_r) / 2; dI/db_r are the sums of third derivatives."""
    inverse = newton.invert(found.information)
    if inverse is None:
        return None
    whole = np.zeros((size, size, size))
    for value, places in zip(third, third_places(size), strict=True):
        for at in set(itertools.permutations(places)):
            whole[at] = value
    _, log_determinant = np.linalg.slogdet(found.information)
    return Evaluation(
        found.value + float(log_determinant) / 2,
        found.gradient + np.einsum("ij,rij->r", inverse, whole) / 2,
        found.information,
        found.log_likelihood,
    )


def _kept(parameters: Sequence[float], spec: Regression) -> tuple[bool, ...]:
    if len(parameters) != len(spec.terms):
        raise Malformed("WRONG_PARAMETERS", "the moments are asked with a mark for each term", "parameters")
    return tuple(value == 1.0 for value in parameters)


def _text(spec: Spec) -> str:
    return json.dumps(spec, sort_keys=True, allow_nan=False)


# A specification is read in every round, several times, and is the same in all of them; a layout, too, is
# asked for by the round and by what is computed in it.
@lru_cache(maxsize=32)
def _read(model: Fitted, text: str) -> Regression:
    return model.read_anew(json.loads(text))


@lru_cache(maxsize=8)
def _layout(model: Fitted, text: str, phase: str, parameters: tuple[float, ...]) -> Layout:
    return model.layout_anew(_read(model, text), phase, parameters)
