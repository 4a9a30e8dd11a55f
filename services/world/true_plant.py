"""What a lot of the developer's medicine truly is, from the set-points it was made by.

The plant's strain breathes a little more and its product decays a little faster
than anybody at the developer's knows, and its vessel transfers less oxygen than
was measured. So the twin is off by about as much lot after lot, and learns it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from services.production.domain.twin import reference
from services.production.domain.twin.cqas import CQAS, attributes
from services.production.domain.twin.ensemble import run_many
from services.production.domain.twin.process import member
from services.production.domain.twin.set_points import SetPoints
from services.world.recipes import IMPURITY, TITRE

_PROCESS = replace(
    reference.PROCESS,
    parameters=replace(
        reference.PARAMETERS,
        hydrolysis=reference.PARAMETERS.hydrolysis * 1.10,
        m_o=reference.PARAMETERS.m_o * 1.02,
    ),
)
_VESSEL = replace(reference.PLANT, kla_factor=reference.PLANT.kla_factor * 0.98)
#: Standard deviations from lot to lot that no set-point explains.
_SCATTER = {TITRE: 0.05, IMPURITY: 0.02}
_PLACES = 3


def results(set_points: Mapping[str, float], draw: Random) -> dict[str, float]:
    """What the laboratory finds: titre in g/L, impurity in %. Set-points in /min, L/min, L/h, K and pH."""
    run = member(_PROCESS, _VESSEL, SetPoints(**set_points))
    found = attributes(run_many([run]), [run.parameters.saturation])[0]
    made = dict(zip(CQAS, map(float, found), strict=True))
    return {
        name: round(max(0.0, made[name] + draw.gauss(0, scatter)), _PLACES)
        for name, scatter in sorted(_SCATTER.items())
    }
