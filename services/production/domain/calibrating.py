"""A prediction at a plant, moved and widened by what the plant's earlier lots were off.

The value moves by their mean error. The interval's variance is pooled from two
sources: the twin's own, which counts as so many outcomes, and the scatter of
the outcomes around the calibration. So a few outcomes move the width little,
and many replace it. One outcome alone has no scatter and leaves the width.
"""

from __future__ import annotations

import math

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.rnd.v1 import events_pb2 as rnd

#: The twin's own variance counts as so many degrees of freedom.
_TWIN_COUNTS = 4
_HALF_WIDTH = 1.959964  # standard deviations of a normal 95 % interval


def calibrated(predicted: common.Estimate, by: rnd.AttributeCalibration) -> common.Estimate:
    """The estimate with the calibration; both arms of its interval grow or shrink by one factor."""
    factor = _factor((predicted.upper - predicted.lower) / (2 * _HALF_WIDTH), by)
    return common.Estimate(
        value=predicted.value + by.bias,
        lower=predicted.value + by.bias - factor * (predicted.value - predicted.lower),
        upper=predicted.value + by.bias + factor * (predicted.upper - predicted.value),
    )


def _factor(twin: float, by: rnd.AttributeCalibration) -> float:
    """By how much the interval's arms change; `twin` is the twin's own standard deviation."""
    freedom = by.outcomes - 1
    if freedom < 1 or twin <= 0:
        return 1.0
    pooled = (_TWIN_COUNTS * twin**2 + freedom * by.spread**2) / (_TWIN_COUNTS + freedom)
    return math.sqrt(pooled) / twin
