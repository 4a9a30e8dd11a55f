"""What a site and the coordinator say to each other: asks, vectors of a known layout, results.

    coordinator                                   every site
    start(spec) -> State
    ask(state) -> Ask           ----------->      layout(ask) -> Layout
                                                  contribute(ask, table) -> vector
    take(state, total) -> State <-- the sum of the vectors, by secure aggregation
    ... until ask(state) is None
    result(state) -> Result

A model is the same object on both sides and holds nothing. Everything that
changes is in `State` (the coordinator's, JSON) and in `Ask` (what is sent,
JSON). The layout follows from the ask alone, so that all know the length and
the bounds of the vector before anybody masks one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.exchange.domain.errors import Unfit
from services.refusals import Malformed

Vector = NDArray[np.float64]
T = TypeVar("T")

#: What a site holds: equally long columns by name.
Columns = Mapping[str, NDArray[Any]]


class Fixed(dict[str, NDArray[Any]]):
    """The columns of a job, which stay as they are: what rests on them alone is made once, not each round."""

    def __init__(self, columns: Columns) -> None:
        super().__init__(columns)
        self._made: dict[Hashable, Any] = {}

    def once(self, what: Hashable, make: Callable[[], T]) -> T:
        if what not in self._made:
            self._made[what] = make()
        made: T = self._made[what]
        return made


#: A specification or memo: what JSON can carry.
Spec = Mapping[str, Any]


def canonical(value: Any) -> str:
    """One text for one value: keys sorted, no spaces, floats as Python's shortest round trip.

    Raises Malformed for what JSON cannot carry, infinities and NaN included.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        said = f"only text, finite numbers, lists and mappings can be agreed on ({error})"
        raise Malformed("NOT_JSON", said, "spec") from error


@dataclass(frozen=True)
class Ask:
    """What the coordinator sends to every site in one round. `parameters`: flat, in the phase's order."""

    spec: Spec
    phase: str
    round: int
    parameters: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "spec": dict(self.spec),
            "phase": self.phase,
            "round": self.round,
            "parameters": list(self.parameters),
        }

    @staticmethod
    def from_json(said: Mapping[str, Any]) -> Ask:
        """Raises Malformed where a field is missing or of another type."""
        try:
            return Ask(
                dict(said["spec"]),
                str(said["phase"]),
                int(said["round"]),
                tuple(float(value) for value in said["parameters"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            said_ = f"an ask has a spec, a phase, a round and parameters ({error!r})"
            raise Malformed("NOT_AN_ASK", said_, "ask") from error

    def digest(self) -> str:
        """SHA-256, in hex, of the canonical text: equal at two sites exactly if they were asked the same."""
        return hashlib.sha256(canonical(self.to_json()).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Part:
    """A named piece of the vector. `bounds`, flat: the largest absolute value that one site may give."""

    name: str
    shape: tuple[int, ...]
    bounds: Vector

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def part(name: str, shape: int | tuple[int, ...], bounds: float | Vector | Sequence[float]) -> Part:
    """A part; one bound for all its elements, or one for each."""
    shape = (shape,) if isinstance(shape, int) else shape
    given = np.asarray(bounds, dtype=float)
    flat = np.broadcast_to(given, shape) if given.ndim in {0, len(shape)} else given
    return Part(name, shape, np.array(flat, dtype=float).ravel())


@dataclass(frozen=True, eq=False)
class Layout:
    """The parts of a vector, in their order."""

    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    def bounds(self) -> Vector:
        """The largest absolute value of each element at one site, flat."""
        return np.concatenate([part.bounds for part in self.parts]) if self.parts else np.zeros(0)

    def scales(self, sites: int, bits: int = 62) -> Vector:
        """Powers of two by which to multiply before rounding to integers, one for each element.

        The largest for which the sum over `sites` stays below 2**bits, so that
        the fixed point of a secure sum cannot overflow and keeps most digits.
        """
        most = np.maximum(self.bounds() * sites, 1e-9)
        return np.asarray(np.exp2(np.floor(bits - 1 - np.log2(most))))

    def join(self, values: Mapping[str, Any]) -> Vector:
        """The parts as one vector, checked against the bounds.

        Raises Unfit for a number that is not finite or beyond its bound: such a
        vector must not be masked.
        """
        flat = [np.asarray(values[part.name], dtype=float).reshape(part.size) for part in self.parts]
        vector = np.concatenate(flat) if flat else np.zeros(0)
        self.check(vector)
        return vector

    def check(self, vector: Vector, sites: int = 1) -> None:
        """Raises Malformed for another length, Unfit for what is not finite or beyond `sites` bounds."""
        if vector.shape != (self.size,):
            said = f"the vector of this round has {self.size} numbers, not {vector.size}"
            raise Malformed("WRONG_LENGTH", said, "vector")
        at = 0
        for piece in self.parts:
            values, at = vector[at : at + piece.size], at + piece.size
            # A hair of room: a sum of n rounded products may pass n times the largest by its rounding.
            if not np.all(np.abs(values) <= piece.bounds * sites * (1 + 1e-9)):
                said = f"{piece.name} is not finite or beyond what the layout allows; nothing was sent"
                raise Unfit("BEYOND_BOUND", said, piece.name)

    def split(self, vector: Vector) -> dict[str, Vector]:
        """The parts by name, in their shapes. Raises Malformed for another length or what is not finite."""
        total = np.asarray(vector, dtype=float)
        if total.shape != (self.size,) or not np.all(np.isfinite(total)):
            said = f"the total of this round is {self.size} finite numbers"
            raise Malformed("WRONG_TOTAL", said, "total")
        found, at = {}, 0
        for piece in self.parts:
            found[piece.name] = total[at : at + piece.size].reshape(piece.shape)
            at += piece.size
        return found


@dataclass(frozen=True)
class State:
    """Where the coordinator stands. `memo` is JSON, so that the state can be stored between rounds."""

    spec: Spec
    phase: str
    round: int
    memo: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"spec": dict(self.spec), "phase": self.phase, "round": self.round, "memo": dict(self.memo)}

    @staticmethod
    def from_json(said: Mapping[str, Any]) -> State:
        """What `to_json` gave. Raises Malformed where a field is missing."""
        try:
            return State(dict(said["spec"]), str(said["phase"]), int(said["round"]), dict(said["memo"]))
        except (KeyError, TypeError, ValueError) as error:
            said_ = f"a state has a spec, a phase, a round and a memo ({error!r})"
            raise Malformed("NOT_A_STATE", said_, "state") from error


#: The phase of a state after which nothing is asked.
DONE = "done"


@dataclass(frozen=True)
class Estimate:
    """One number that was estimated; None where the data give none.

    `statistic` is z, t (with `degrees` of freedom) or chi-square, as the model says.
    """

    name: str
    value: float | None
    standard_error: float | None = None
    lower: float | None = None
    upper: float | None = None
    statistic: float | None = None
    p_value: float | None = None


@dataclass(frozen=True)
class Result:
    """What a job found.

    `n` rows, `events` where the outcome is one; `flags` are machine-readable
    and say what was done that the plain method does not do, or what failed.
    `rounds`: how often the sites were asked. `covariance` of the estimates, row
    by row, where there is one. `tables`: what is not a list of estimates
    (curves, bins, the scaling), as JSON.
    """

    model: str
    estimates: tuple[Estimate, ...]
    n: int
    rounds: int
    events: int | None = None
    log_likelihood: float | None = None
    flags: tuple[str, ...] = ()
    covariance: tuple[tuple[float, ...], ...] = ()
    tables: Mapping[str, Any] = field(default_factory=dict)

    def estimate(self, name: str) -> Estimate:
        """The estimate of this name. Raises Malformed where there is none."""
        for found in self.estimates:
            if found.name == name:
                return found
        names = ", ".join(one.name for one in self.estimates)
        raise Malformed("NO_SUCH_ESTIMATE", f"this result has: {names}", name)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "estimates": [vars(one) for one in self.estimates],
            "n": self.n,
            "rounds": self.rounds,
            "events": self.events,
            "log_likelihood": self.log_likelihood,
            "flags": list(self.flags),
            "covariance": [list(row) for row in self.covariance],
            "tables": dict(self.tables),
        }


class Model(Protocol):
    """One method of statistics, for both sides. All of it is pure.

    Raises Malformed for a specification or a vector that breaks a form, Unfit
    where the data of the site, or the sums, do not carry the method.
    """

    @property
    def name(self) -> str: ...

    @property
    def takes_noise(self) -> bool:
        """May a study of it ask for noise (`noise` of its specification)?"""

    @property
    def repeats(self) -> str:
        """The phase that may be asked again and again; empty where none is."""

    def course(self, spec: Spec) -> tuple[str, ...]:
        """The phases of a job, in their order. A job may end after any."""

    def noise(self, ask: Ask) -> Vector | None:
        """The least standard deviation of the noise in each number of the sum; None where there is none."""

    def start(self, spec: Spec) -> State:
        """The coordinator's first state; its spec is the canonical one, all defaults written out."""

    def ask(self, state: State) -> Ask | None:
        """What to ask of the sites next; None when nothing more is."""

    def layout(self, ask: Ask) -> Layout:
        """What the vector of this round is made of."""

    def contribute(self, ask: Ask, table: Columns) -> Vector:
        """A site's vector; of a table without rows, zeros."""

    def take(self, state: State, total: Vector) -> State:
        """The next state, from the sum of all sites' vectors."""

    def result(self, state: State) -> Result:
        """What was found. Raises Malformed before the job is done."""
