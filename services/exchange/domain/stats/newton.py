"""Newton's method with step-halving, one evaluation at a time, and what may stop it.

    value      log-likelihood, less the penalty where there is one
    gradient, information   of that value; information is the negative Hessian

A step is halved while the value falls. The climb ends when the full step is no
longer than the tolerance in every (standardised) coordinate; that step is still
taken. So it does when steps below 1e-7 no longer shrink: the sums have no more
digits. It also ends where there is no single highest point:

    singular    the information at the start cannot be inverted: columns of the
                design depend on each other
    separable   the value hardly rises any more (Newton decrement below 1e-4),
                yet the step is over 1e-3 and over half the last one, where
                Newton's steps would shrink quadratically: the likelihood has its
                limit at infinity, as of separated data (Albert and Anderson,
                Biometrika 1984;71:1). So too where the information becomes singular on the
                way, or the climb presses against the bound of what sites may
                evaluate with little left to gain (a decrement below 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from services.exchange.domain.stats.protocol import Vector

Verdict = Literal["go on", "converged", "singular", "separable", "stalled"]

#: Smallest eigenvalue of the information, scaled to a unit diagonal, that counts as invertible.
INVERTIBLE = 1e-11

_HALVINGS = 40

#: So many halvings in a row at the bound are no overshoot of a first step when little is left to gain.
_PRESSED = 4


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the sums say at one point: vectors of p, a matrix of p x p. `log_likelihood` has no penalty."""

    value: float
    gradient: Vector
    information: Vector
    log_likelihood: float


@dataclass(frozen=True, eq=False)
class Climb:
    """The highest point so far, if any, and the point that is being asked about."""

    trial: Vector
    at: Vector | None = None
    best: Evaluation | None = None
    halvings: int = 0

    def to_json(self) -> dict[str, Any]:
        said: dict[str, Any] = {"trial": self.trial.tolist(), "halvings": self.halvings}
        if self.at is not None and self.best is not None:
            said["at"] = self.at.tolist()
            said["best"] = {
                "value": self.best.value,
                "gradient": self.best.gradient.tolist(),
                "information": self.best.information.tolist(),
                "log_likelihood": self.best.log_likelihood,
            }
        return said

    @staticmethod
    def from_json(said: Mapping[str, Any]) -> Climb:
        trial, best = np.array(said["trial"], dtype=float), said.get("best")
        if best is None:
            return Climb(trial, halvings=int(said["halvings"]))
        size = len(trial)
        evaluation = Evaluation(
            best["value"],
            np.array(best["gradient"], dtype=float),
            np.array(best["information"], dtype=float).reshape(size, size),
            best["log_likelihood"],
        )
        return Climb(trial, np.array(said["at"], dtype=float), evaluation, int(said["halvings"]))


def advance(climb: Climb, found: Evaluation | None, tolerance: float) -> tuple[Climb, Verdict]:
    """The next point to ask about, after what was found at `climb.trial`.

    `found` is None where the sites could not evaluate it (too far out): the step
    is halved as if the value had fallen; at the very first point that is "stalled".
    """
    if found is None or (climb.best is not None and _fell(found.value, climb.best.value)):
        return _shorter(climb, pressed=found is None)
    first = climb.best is None
    at = climb.trial
    step = solve(found.information, found.gradient)
    if step is None:
        return Climb(at, at, found), "singular" if first else "separable"
    length = float(np.max(np.abs(step), initial=0.0))
    last = np.inf if climb.at is None else float(np.max(np.abs(at - climb.at), initial=0.0))
    shrinks = length <= last / 2
    if length <= tolerance or (length <= 1e-7 and not shrinks):
        return Climb(at + step, at + step, found), "converged"
    if float(found.gradient @ step) < 1e-4 and length > 1e-3 and not shrinks:
        return Climb(at, at, found), "separable"
    return Climb(at + step, at, found), "go on"


def solve(information: Vector, right: Vector) -> Vector | None:
    """The solution of information x = right; None where the information is singular."""
    inverse = invert(information)
    if inverse is None:
        return None
    step = inverse @ right
    # One refinement: the information of nearly dependent columns loses digits.
    return np.asarray(step + inverse @ (right - information @ step))


def invert(information: Vector) -> Vector | None:
    """The inverse of a symmetric matrix; None where it is singular (not positive definite)."""
    diagonal = np.diag(information)
    if not np.all(np.isfinite(information)) or not np.all(diagonal > 0):
        return None
    root = np.sqrt(diagonal)
    values, vectors = np.linalg.eigh(information / np.outer(root, root))
    if values.size and values[0] < INVERTIBLE:
        return None
    return np.asarray((vectors / values) @ vectors.T / np.outer(root, root))


def dependent(information: Vector, names: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns that make the information singular."""
    diagonal = np.diag(information)
    flat = [name for name, value in zip(names, diagonal, strict=True) if not value > 0]
    if flat:
        return tuple(flat)
    root = np.sqrt(diagonal)
    _, vectors = np.linalg.eigh(information / np.outer(root, root))
    return tuple(name for name, part in zip(names, vectors[:, 0], strict=True) if abs(part) > 0.1)


def _shorter(climb: Climb, pressed: bool) -> tuple[Climb, Verdict]:
    """Half the step; `pressed`: the sites could not evaluate the whole one."""
    if climb.at is None or climb.best is None or climb.halvings >= _HALVINGS:
        return climb, "stalled"
    if pressed and climb.halvings >= _PRESSED and _decrement(climb.best) < 1:
        return climb, "separable"
    half = climb.at + (climb.trial - climb.at) / 2
    return Climb(half, climb.at, climb.best, climb.halvings + 1), "go on"


def _decrement(found: Evaluation) -> float:
    """Twice what a full step would gain if the value were quadratic; infinite where there is no step."""
    step = solve(found.information, found.gradient)
    return float("inf") if step is None else float(found.gradient @ step)


def _fell(value: float, best: float) -> bool:
    """Lower by more than the rounding of the sums."""
    return not value >= best - 1e-9 * (1 + abs(best))


def triangle(matrix: Vector) -> Vector:
    """The upper triangle of a symmetric matrix, row by row."""
    return np.asarray(matrix[_upper(len(matrix))])


def square(upper: Vector, size: int) -> Vector:
    """The symmetric matrix of an upper triangle."""
    matrix = np.zeros((size, size))
    matrix[_upper(size)] = upper
    return np.asarray(matrix + np.triu(matrix, 1).T)


@lru_cache(maxsize=16)
def _upper(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(size)
