"""From batch to fed-batch: the moment the substrate falls to its threshold.

Everything after depends on that moment, so the solver locates it as an event (the
root of substrate less threshold); a look at every step would find it late.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.production.domain.twin.errors import Reason, refuse

Floats = npt.NDArray[np.float64]
_SUBSTRATE = 1


@dataclass(frozen=True)
class Switch:
    """When the feed begins (h), and the states at that moment."""

    hour: float
    states: tuple[float, ...]


def switch_at(
    derivatives: Callable[[float, Floats], Any],
    begin: Floats,
    threshold: float,
    end: float,
    relative: float = 1e-9,
    absolute: float | Floats = 1e-12,
) -> tuple[Switch | None, Callable[[Floats], Floats]]:
    """Integrate from hour 0 until the substrate (the second state) reaches the threshold, or the end.

    Also returned: the states (rows) at given times up to there. No switch where the substrate lasts.
    """
    from scipy.integrate import solve_ivp  # noqa: PLC0415 -- a waiting service need not hold SciPy

    def used_up(_: float, y: Floats) -> float:
        return float(y[_SUBSTRATE]) - threshold

    used_up.terminal, used_up.direction = True, -1  # type: ignore[attr-defined]
    solved = solve_ivp(
        derivatives,
        (0.0, end),
        begin,
        method="LSODA",
        events=used_up,
        rtol=relative,
        atol=absolute,
        dense_output=True,
    )
    if not solved.success:
        rule = f"the model cannot be solved for these inputs ({solved.message})"
        refuse([Reason("NOT_SOLVABLE", "recipe", rule, "give inputs nearer to the process")])
    found = solved.t_events[0]
    switch = Switch(float(found[0]), tuple(solved.y_events[0][0].tolist())) if len(found) else None
    dense: Callable[[Floats], Floats] = solved.sol
    return switch, dense
