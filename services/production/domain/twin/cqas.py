"""What a simulated run says of its product: declared surrogates of quality attributes.

The model knows biomass, substrate, oxygen and product, no chromatogram. So three
of the four attributes are stand-ins, stated here and used the same everywhere:

titre                  product at the end, g/L: the model's own
residual_substrate     substrate at the end, mg/L: the model's own
oxygen_limited_hours   hours below the critical oxygen (half of saturation): a stand-in for stress
impurity               % of by-products: 0.4 % that every run has, and 4 % times the share of the run
                       that lacked oxygen, weighted by how much it lacked: a stand-in, no chemistry
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.production.domain.twin.ensemble import Ensemble
from services.production.domain.twin.pensim import OXYGEN, PRODUCT, SUBSTRATE, Floats

#: The attributes with their UCUM units, in the order of every table.
CQAS = {"titre": "g/L", "impurity": "%", "residual_substrate": "mg/L", "oxygen_limited_hours": "h"}
#: Share of saturation below which oxygen is short: production has then lost about a tenth.
CRITICAL = 0.50
_ALWAYS, _BY_SHORTAGE = 0.4, 4.0


def attributes(runs: Ensemble, saturation: Sequence[float]) -> Floats:
    """The attributes of every run (members x attributes). `saturation` is each member's, g/L of oxygen."""
    critical = CRITICAL * np.asarray(saturation)[:, None]
    lack = 1 - runs.states[:, :, OXYGEN] / critical
    hours = np.diff(runs.times, axis=1)
    length = runs.times[:, -1]
    shortage = np.maximum(lack, 0.0)
    starved = ((shortage[:, 1:] + shortage[:, :-1]) / 2 * hours).sum(axis=1)
    # Where a step crosses the critical value, only its part below counts: no jumps between two runs.
    small, large = np.minimum(lack[:, 1:], lack[:, :-1]), np.maximum(lack[:, 1:], lack[:, :-1])
    part = np.clip(large / np.maximum(large - small, 1e-12), 0.0, 1.0)
    limited = (np.where(small >= 0, 1.0, np.where(large <= 0, 0.0, part)) * hours).sum(axis=1)
    last = runs.states[:, -1]
    columns = (
        last[:, PRODUCT],
        _ALWAYS + _BY_SHORTAGE * starved / length,
        1000 * np.maximum(last[:, SUBSTRATE], 0.0),
        limited,
    )
    return np.stack(columns, axis=1)
