"""The process twin by itself: a run of 400 h, an adaptation, advice, and one reading of a live lot.

Beside it stands what anybody would write with SciPy: the same equations, from the
paper into one function, given to `solve_ivp`. Both must come to the same end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from services.production import twins
from services.production.domain.twin import pensim, pensim_full
from services.production.domain.twin.follow import Inputs, Reading, begin, follow
from services.world import recipes
from tests.bench.framework.machine import Machine
from tests.bench.framework.rows import Row, Target, row
from tests.bench.framework.run import option
from tests.bench.framework.stats import p50, p99

RUNS = option("COUNT", 20)
ADVICE = option("ADVICE", 5)
READINGS = option("READINGS", 400)
_WARM_UP = 1
_SEED = 7


def timed(work: Callable[[], Any], times: int) -> tuple[list[float], Any]:
    """Milliseconds of each time, and the last result; what is loaded first does not count."""
    found, result = [], None
    for number in range(_WARM_UP + times):
        began = time.perf_counter()
        result = work()
        if number >= _WARM_UP:
            found.append(1000 * (time.perf_counter() - began))
    return found, result


def by_scipy() -> Sequence[float]:
    """The end of the published run: biomass, substrate, oxygen, product (g/L) and volume (L)."""
    k, r = pensim.CONSTANTS, pensim.PUBLISHED
    hydrogen = 10.0**-r.ph
    warm = k.k_g * math.exp(-k.e_g / (1.987 * r.temperature)) - k.k_d * math.exp(
        -k.e_d / (1.987 * r.temperature)
    )
    largest = k.mu_x / (1 + k.k_1 / hydrogen + hydrogen / k.k_2) * warm
    lost = k.evaporation * (math.exp(5 * (r.temperature - k.t_0) / (k.t_v - k.t_0)) - 1)

    def slopes(_: float, y: Any, feed: float) -> list[float]:
        x, s, o, p, v = y
        s, o = max(s, 0.0), max(o, 0.0)
        mu = largest * s / (k.k_x * x + s) * o / (k.k_ox * x + o)
        making = k.mu_p * s / (k.k_p + s + s**2 / k.k_i) * o**k.p / (k.k_op * x + o**k.p)
        kla = k.alpha * math.sqrt(r.aeration) * (r.power / v) ** k.beta
        eaten = k.m_x * s**2 / (s**2 + pensim.LAST_SUBSTRATE)
        breathed = k.m_o * o**2 / (o**2 + pensim.LAST_OXYGEN)
        swell = feed - v * lost
        return [
            mu * x - x / v * swell,
            -(mu / k.y_xs + making / k.y_ps + eaten) * x + feed * k.feed_substrate / v - s / v * swell,
            -(mu / k.y_xo + making / k.y_po + breathed) * x + kla * (k.saturation - o) - o / v * swell,
            making * x - k.hydrolysis * p - p / v * swell,
            swell,
        ]

    def used_up(_: float, y: Any, feed: float) -> float:
        return float(y[1] - r.threshold)

    used_up.terminal = True  # type: ignore[attr-defined]
    how: dict[str, Any] = {"method": "LSODA", "rtol": pensim.RELATIVE, "atol": pensim.ABSOLUTE}
    batch = solve_ivp(slopes, (0, r.hours), r.begin(), args=(0.0,), events=used_up, **how)
    fed = solve_ivp(slopes, (batch.t[-1], r.hours), batch.y[:, -1], args=(r.feed,), **how)
    end: Sequence[float] = fed.y[:, -1].tolist()
    return end


def _follow() -> list[float]:
    """Milliseconds of each reading of a lot, hour by hour."""
    truth = pensim.run(times=np.arange(0.0, READINGS + 1.0))
    assert truth.switch is not None, "the published run is fed"
    held, found = begin(), []
    for hour, state in zip(truth.times.tolist(), truth.states.tolist(), strict=True):
        feed = pensim.PUBLISHED.feed if hour > truth.switch.hour else 0.0
        inputs = Inputs(feed, 8.0, 29.9, 298.0, 5.0)
        oxygen = 100 * state[pensim.OXYGEN] / pensim.CONSTANTS.saturation
        reading = Reading(hour, inputs, dissolved_oxygen=oxygen, volume=state[pensim.VOLUME])
        began = time.perf_counter()
        held, estimate = follow(held, reading)
        found.append(1000 * (time.perf_counter() - began))
    off = abs(estimate.biomass / state[pensim.BIOMASS] - 1)
    assert off < 0.05, f"the followed biomass is {100 * off:.1f} % off"
    return found


def run(machine: Machine) -> list[Row]:
    plain, end = timed(by_scipy, RUNS)
    reduced, ran = timed(pensim.run, RUNS)
    assert np.allclose(ran.last(), end, rtol=1e-5), f"{ran.last()} is not {end}"
    full, _ = timed(pensim_full.run_full, RUNS)
    content = recipes.content("bench/item/P", "", "a bench")
    place = twins.Place("line", recipes.plant_vessel())
    adapted, found = timed(lambda: twins.adapt(content, place, _SEED), RUNS)
    assert isinstance(found, twins.Adapted), found
    advised, advice = timed(
        lambda: twins.advise(content, place, found.recipe, found.predictions, _SEED), ADVICE
    )
    assert advice.moved, "the twin found nothing better"
    followed = _follow()
    scipy = ("the same equations in one function by solve_ivp (LSODA, to 1e-9)", p50(plain))
    return [
        row(
            "a run of 400 h, reduced twin, p50",
            p50(reduced),
            "ms",
            target=Target(at_most=30.0),
            yardstick=scipy,
            note=_worst(reduced),
        ),
        row("a run of 400 h, full twin, p50", p50(full), "ms", yardstick=scipy, note=_worst(full)),
        row("a set brought to a line (adapt), p50", p50(adapted), "ms", note=_worst(adapted)),
        row("set-points proposed (advise), p50", p50(advised), "ms", note=_worst(advised)),
        row(
            "a reading followed, p50",
            p50(followed),
            "ms",
            target=Target(at_most=10.0),
            note=f"{_worst(followed)}, an hour from one to the next",
        ),
    ]


def _worst(times: Sequence[float]) -> str:
    return f"{len(times)} times, p99 {p99(times):.1f} ms"
