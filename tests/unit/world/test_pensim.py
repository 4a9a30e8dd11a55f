"""The penicillin fermentation against the published model's own numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.world.pensim import Inputs, Kinetics, ferment, temperature_factor

NORMAL = Inputs()
HOURS = np.linspace(0.0, 400.0, 401)


def test_the_batch_phase_ends_where_the_sugar_does() -> None:
    batch = ferment(lambda hour: NORMAL, HOURS)
    assert round(batch.switched, 3) == 44.011
    at = ferment(lambda hour: NORMAL, np.array([0.0, batch.switched])).states[-1]
    assert (round(at[0], 4), round(at[3], 5), round(at[4], 3)) == (6.4067, 0.01150, 97.325)
    assert at[1] == pytest.approx(0.3, abs=1e-6)


def test_the_harvest_is_the_models() -> None:
    end = ferment(lambda hour: NORMAL, HOURS).states[-1]
    assert (round(end[0], 4), round(end[3], 4), round(end[4], 3)) == (14.2503, 1.6151, 91.584)
    assert round(temperature_factor(Kinetics(), 298.0), 6) == 1.271842


@pytest.mark.parametrize(
    ("change", "penicillin"),
    [
        ({"feed": 0.035}, 1.377),
        ({"feed": 0.050}, 1.872),
        ({"temperature": 300.0}, 1.668),
        ({"power": 20.0}, 1.615),
    ],
)
def test_one_factor_changed_moves_the_harvest_as_known(change: dict[str, float], penicillin: float) -> None:
    """Feed counts most, agitation not at all: at this aeration oxygen never limits."""
    changed = replace(NORMAL, **change)
    assert round(ferment(lambda hour: changed, HOURS).states[-1][3], 3) == penicillin


def test_a_batch_that_is_never_used_up_ends_without_feed() -> None:
    short = ferment(lambda hour: NORMAL, np.linspace(0.0, 20.0, 21))
    assert short.switched == 20.0
    assert np.isfinite(short.states).all()
    assert (short.states[:, 1] > 0.3).all()
