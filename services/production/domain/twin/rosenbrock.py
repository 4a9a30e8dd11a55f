"""A stiff solver for many small systems side by side, each with steps of its own.

Rodas3 of Sandu, Verwer, Blom, Spee, Carmichael and Potra (Atmospheric Environment 31
(1997) 3459): four stages, third order with an embedded second, stiffly accurate.
A solver of one large system takes the smallest step that any of its parts needs;
here each member goes at its own pace, and numpy does one stage of all of them at a
time. For single runs with tight tolerances there is LSODA (`pensim.run`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
#: Of some members (by index) and their states (members x states): derivatives, and their Jacobian.
Slopes = Callable[[Ints, Floats], Floats]
Jacobian = Callable[[Ints, Floats], Floats]
_MOST_STEPS = 5000
#: Share of the end that is no time any more.
_SMALLEST = 1e-13
_FIRST = 1e-3


@dataclass(frozen=True)
class Falls:
    """A state (its column), the value that ends each member, and how near to it is near enough."""

    state: int
    to: Floats
    within: float


class Unsolved(ArithmeticError):
    """A member did not come to its end."""


def solve(
    slopes: Slopes,
    jacobian: Jacobian,
    begin: Floats,
    since: Floats,
    until: Floats,
    *,
    relative: float,
    absolute: Floats,
    falls: Falls | None = None,
) -> tuple[Floats, Floats]:
    """All members from `since` to `until` (each its own); the equations do not name the time.

    Returned are the points of every step: times (members x points) and states (members x points x states).
    A member that rejected a step or is at its end repeats its last point, so that all have equally many.
    With `falls`, a member also ends where one of its states falls to a value: a step that goes beyond is
    taken again, shorter, until it ends there.
    """
    live = np.flatnonzero(until > since)
    every_time, every_state = [since.copy()], [begin.copy()]
    time, state, end = since[live], begin[live], until[live]
    step = np.minimum(_FIRST, end - time)
    for _ in range(_MOST_STEPS):
        if not len(live):
            return np.stack(every_time, axis=1), np.stack(every_state, axis=1)
        step = np.minimum(step, end - time)
        new, error = _step(slopes, jacobian, live, state, step)
        size = absolute + relative * np.maximum(np.abs(state), np.abs(new))
        wrong = np.sqrt(((error / size) ** 2).mean(axis=1))
        wrong = np.where(np.isfinite(wrong), wrong, 1e3)
        good = wrong <= 1
        length = step * np.clip(0.9 * np.maximum(wrong, 1e-9) ** (-1 / 3), 0.2, 5.0)
        fallen = np.zeros(len(live), dtype=bool)
        if falls is not None:
            above = state[:, falls.state] - falls.to[live]
            beyond = falls.to[live] - new[:, falls.state]
            fallen = good & (np.abs(beyond) <= falls.within)
            over = good & (beyond > falls.within)
            good &= ~over
            length = np.where(over, step * above / np.maximum(above + beyond, falls.within), length)
        time = np.where(good, time + step, time)
        state = np.where(good[:, None], new, state)
        step = length
        now, here = every_time[-1].copy(), every_state[-1].copy()
        now[live], here[live] = time, state
        every_time.append(now)
        every_state.append(here)
        going = (end - time > _SMALLEST * np.abs(end)) & ~fallen
        if (step[going] < _SMALLEST * end[going]).any():
            raise Unsolved("a step has become too small to be one")
        live, time, state, end, step = live[going], time[going], state[going], end[going], step[going]
    raise Unsolved(f"{len(live)} members are not at their end after {_MOST_STEPS} steps")


def _step(
    slopes: Slopes, jacobian: Jacobian, live: Ints, state: Floats, step: Floats
) -> tuple[Floats, Floats]:
    """One step of each member, and its estimated error."""
    over = 1 / step[:, None]
    matrix = np.eye(state.shape[1]) * (2 * over)[:, :, None] - jacobian(live, state)
    inverse = np.linalg.inv(matrix)

    def solved(right: Floats) -> Floats:
        product: Floats = np.einsum("nij,nj->ni", inverse, right)
        return product

    here = slopes(live, state)
    one = solved(here)
    two = solved(here + 4 * over * one)
    three = solved(slopes(live, state + 2 * one) + over * (one - two))
    before = state + 2 * one + three
    four = solved(slopes(live, before) + over * (one - two - 8 / 3 * three))
    return before + four, four
