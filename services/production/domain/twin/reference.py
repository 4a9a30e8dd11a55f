"""The reference process: one that a transfer can be judged on.

The published model stirs its 100 L with 299 W/m3, below the range of van 't Riet's
correlation, and has a kLa far above what the correlation gives; its oxygen never
limits, so no change of scale would show. The reference process is declared
instead: the same equations, a medium three times as rich and a feed three times
as strong, a strain whose maintenance takes twice the oxygen, stirred within the
correlation's range, each vessel with its own calibrated kLa. Oxygen limits it:
scale, stirring and gas are seen in titre and impurity.
"""

from __future__ import annotations

from dataclasses import replace

from services.production.domain.twin.errors import Reason, positive
from services.production.domain.twin.pensim import ReducedParameters
from services.production.domain.twin.process import Process
from services.production.domain.twin.set_points import Range, SetPoints
from services.production.domain.twin.vessels import Vessel

#: The pilot vessel: 100 L of broth, geometrically similar to the one of the plant.
PILOT = Vessel(
    name="pilot-100",
    volume_m3=0.15,
    liquid_m3=0.10,
    diameter_m=0.48,
    impeller_diameter_m=0.16,
    blade_width_m=0.032,
    power_number=5.0,
    impellers=2,
    max_speed_rpm=600.0,
    max_gas_l_min=60.0,
    max_feed_l_h=0.5,
    kla_factor=1.05,
    kla_spread=0.05,
)
#: The plant's: 1,000 L of broth.
PLANT = Vessel(
    name="plant-1000",
    volume_m3=1.5,
    liquid_m3=1.00,
    diameter_m=1.034,
    impeller_diameter_m=0.3447,
    blade_width_m=0.06894,
    power_number=5.0,
    impellers=2,
    max_speed_rpm=350.0,
    max_gas_l_min=600.0,
    max_feed_l_h=5.0,
    kla_factor=0.90,
    kla_spread=0.08,
)
#: At the pilot scale.
SET_POINTS = SetPoints(agitation=320.0, aeration=16.0, feed=0.126, temperature=298.0, ph=5.0)
#: Proven acceptable ranges at the pilot scale.
RANGES = {
    "agitation": Range(290.0, 380.0),
    "aeration": Range(13.0, 22.0),
    "feed": Range(0.110, 0.145),
    "temperature": Range(296.5, 299.5),
    "ph": Range(4.8, 5.2),
}
#: The strain: maintenance on oxygen (1/h) twice the published one.
PARAMETERS = ReducedParameters(m_o=0.934)
#: Medium, inoculum and what varies from run to run.
PROCESS = Process(PARAMETERS, biomass=0.3, substrate=45.0)
#: The processes that a set may name as its model.
MODELS = {"pensim-reduced": PROCESS}
#: What is accepted of the product (see `cqas`).
ACCEPTANCE = {"titre": Range(2.2, 6.0), "impurity": Range(0.0, 1.2)}


def process_named(model: str, hours: float, field: str = "process") -> tuple[Process | None, list[Reason]]:
    """The process of a model's name with the duration that a set gives; or why there is none."""
    reasons = positive(f"{field}.duration", hours, "h")
    if model not in MODELS:
        rule = f"{model or 'no model'} is none of {', '.join(MODELS)}"
        reasons.append(Reason("UNKNOWN_MODEL", f"{field}.model", rule, "name a model that the twin runs"))
    return (None, reasons) if reasons else (replace(MODELS[model], hours=hours), [])
